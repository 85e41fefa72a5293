"""The parent's own look at whether the job its child works on is still wanted.

A release or a cancel tells the workers by a broadcast, which a worker that is reconnecting does not hear,
and an engine that hangs never asks. So the parent compares what runs with the records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import Cancelled
from worker.logs import get_logger
from worker.streams.requests import running_task_ids

if TYPE_CHECKING:
    from celery import Celery

    from worker.jobs import JobRecord, JobStore

log = get_logger(__name__)


class Guard:
    """Kills attempts at jobs that were released or cancelled.

    Args:
        name: This worker's. Celery's remote control is used even for ourselves: only its event loop may
            touch the pool.
    """

    def __init__(self, app: Celery, store: JobStore, name: str) -> None:
        self._app = app
        self._store = store
        self._name = name
        self._suspects: set[str] = set()

    def look(self) -> None:
        """Call every few seconds. An attempt is killed when two looks in a row find it unwanted, so that the
        broadcast, or the attempt itself, may come first.
        """
        unwanted = {task_id for task_id in running_task_ids() if is_unwanted(self._store.get(task_id))}
        for task_id in unwanted & self._suspects:
            log.warning("unwanted_attempt_killed", task_id=task_id)
            self._app.control.revoke(task_id, terminate=True, signal="SIGKILL", destination=[self._name])
        self._suspects = unwanted


def is_unwanted(record: JobRecord | None) -> bool:
    return record is None or record.error_code == Cancelled.code
