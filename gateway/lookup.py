"""From a task id in a path to its job record: the one door, with the owner's check in it.

To everyone but its owner a job does not exist: the same answer, after the same reads.
"""

from typing import Annotated

from fastapi import Depends

from gateway.access import CallerOf
from gateway.keys import Caller
from gateway.services import ServicesOf
from worker.cache.folder import is_task_id
from worker.errors import JobGone, JobNotFound
from worker.jobs import JobRecord, JobStore


def find(store: JobStore, task_id: str, caller: Caller) -> JobRecord:
    """The caller's job.

    Raises:
        JobNotFound, JobGone
    """
    record = store.find(task_id, caller.name) if is_task_id(task_id) else None
    if record is None:
        raise absent(store, task_id, caller)
    return record


def absent(store: JobStore, task_id: str, caller: Caller) -> JobNotFound | JobGone:
    """What to raise for a job that has no record, or none for this caller."""
    if is_task_id(task_id) and store.is_gone(task_id, caller.name):
        return JobGone("this job was released or has expired: its files are no more")
    return JobNotFound("there is no job with this task id")


def _visible(task_id: str, services: ServicesOf, caller: CallerOf) -> JobRecord:
    return find(services.store, task_id, caller)


VisibleJob = Annotated[JobRecord, Depends(_visible)]  # of the path parameter task_id
