"""What this worker is doing at the moment, from Celery's requests and the job's record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.gpu.report import JobReport
from worker.streams.requests import running_children

if TYPE_CHECKING:
    from worker.jobs import JobStore


def job_at_work(store: JobStore, now: float) -> JobReport | None:
    """The job that the child runs. Raises one of AWAY."""
    for task_id in running_children():
        record = store.get(task_id)
        if record is not None:
            return JobReport(
                task_id=task_id,
                step=record.step,
                fraction=record.fraction,
                running_s=round(max(0.0, now - (record.started_at or now)), 1),
                speed_x=record.speed_x,
            )
    return None
