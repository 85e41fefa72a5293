"""How far running jobs are, for Flower's pages: Celery's events tell that a task began and that it ended."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from worker.logs import get_logger
from worker.patience import AWAY

if TYPE_CHECKING:
    from worker.jobs import JobRecord, JobStore

log = get_logger(__name__)

READ_EVERY_S = 2.0


class ProgressFeed:
    """Reads the running jobs' records in a thread: Flower's pages must not wait for Redis."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._texts: dict[str, str] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def of(self, task_id: str) -> str | None:
        """Where the job is, if it runs; starts to read at the first question."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
                self._thread.start()
        return self._texts.get(task_id)

    def _run(self) -> None:
        while True:
            try:
                records = [self._store.get(task_id) for task_id in self._store.running_ids()]
                self._texts = {record.id: progress_text(record) for record in records if record}
            except AWAY:
                self._texts = {}
            except Exception:  # the loop's top
                log.exception("progress_not_read")
            time.sleep(READ_EVERY_S)


def progress_text(record: JobRecord) -> str:
    attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
    if not record.step:
        return f"begins{attempt}"
    return f"{record.step} ({record.step_number} of {record.step_of}), {record.fraction:.0%}{attempt}"
