"""POST /cancel: stop a job and keep its record, as failed with code "cancelled"."""

import time
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from gateway.access import CallerOf
from gateway.errors import AlreadyEnded
from gateway.lookup import find
from gateway.openapi import problems
from gateway.services import Services, ServicesOf
from gateway.stopping import is_stopped
from worker.errors import Cancelled, JobGone, JobNotFound
from worker.jobs import Fence, JobRecord, MoveOutcome
from worker.logs import get_logger
from worker.measures import count_end

log = get_logger(__name__)
router = APIRouter()


class CancelledJob(BaseModel):
    task_id: str
    status: Literal["failed"] = "failed"
    stopped: bool = Field(description="False where a worker has not confirmed yet that it stopped.")


@router.post(
    "/cancel/{task_id}",
    tags=["jobs"],
    responses={
        202: {
            "model": CancelledJob,
            "description": "Cancelled; the worker has not confirmed that it stopped.",
        },
        **problems(JobNotFound, AlreadyEnded, JobGone),
    },
)
def cancel(task_id: str, response: Response, services: ServicesOf, caller: CallerOf) -> CancelledJob:
    """Stop a job: a waiting one never runs, a running one is killed. Its recording is removed.

    Safe to repeat, and a repetition finishes what was cut short.
    """
    end(services, find(services.store, task_id, caller))
    stopped = is_stopped(services, find(services.store, task_id, caller), kill=True)
    services.cache.folder(task_id).remove()
    services.dispatch.mark_cancelled(task_id)
    log.info("job_cancelled", task_id=task_id, stopped=stopped)
    response.status_code = 200 if stopped else 202
    return CancelledJob(task_id=task_id, stopped=stopped)


def end(services: Services, record: JobRecord) -> None:
    """The move to failed: after it no attempt can write, and none begins."""
    if record.error_code == Cancelled.code:
        return
    outcome = services.store.fail(
        record.id,
        code=Cancelled.code,
        message="the job was cancelled",
        step=record.step,
        now=time.time(),
        fence=Fence.NONE,
        fields={"stored_bytes": 0},
    )
    if outcome is MoveOutcome.ENDED:
        raise AlreadyEnded("the job has ended already: there is nothing to cancel")
    if outcome is MoveOutcome.MOVED:
        count_end(services.client, services.store, record.id, services.settings.engine)
