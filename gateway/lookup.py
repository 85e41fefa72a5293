"""From a task id in a path to its job record: the one door, and so the place for an owner's check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.cache.folder import is_task_id
from worker.errors import JobGone, JobNotFound

if TYPE_CHECKING:
    from worker.jobs import JobRecord, JobStore


def find(store: JobStore, task_id: str) -> JobRecord:
    """The job's record.

    Raises:
        JobNotFound, JobGone
    """
    record = store.get(task_id) if is_task_id(task_id) else None
    if record is None:
        raise absent(store, task_id)
    return record


def absent(store: JobStore, task_id: str) -> JobNotFound | JobGone:
    """What to raise for a job that has no record."""
    if is_task_id(task_id) and store.is_gone(task_id):
        return JobGone("this job was released or has expired: its files are no more")
    return JobNotFound("there is no job with this task id")
