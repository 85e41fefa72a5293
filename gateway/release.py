"""DELETE /release: everything of a job goes, and whoever works on it is stopped."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from gateway.access import CallerOf
from gateway.keys import Caller
from gateway.lookup import absent
from gateway.openapi import problems
from gateway.services import Services, ServicesOf
from gateway.stopping import is_stopped
from worker.cache.folder import is_task_id
from worker.errors import JobGone, JobNotFound
from worker.jobs import JobState
from worker.logs import get_logger
from worker.patience import AWAY

log = get_logger(__name__)
router = APIRouter()


class Stopping(BaseModel):
    """Record and files are gone; a worker has not confirmed yet that it stopped."""

    task_id: str
    status: Literal["stopping"] = "stopping"
    detail: str


@router.delete(
    "/release/{task_id}",
    status_code=204,
    tags=["jobs"],
    responses={
        202: {"model": Stopping, "description": "Removed; the worker has not confirmed yet that it stopped."},
        **problems(JobNotFound, JobGone),
    },
)
def release(task_id: str, services: ServicesOf, caller: CallerOf) -> Response:
    """Remove a job: its files, its record, and the work on it."""
    record = services.store.release(task_id, caller.name) if is_task_id(task_id) else None
    if record is None:
        clean_up_again(services, task_id, caller)
        raise absent(services.store, task_id, caller)
    stopped = is_stopped(services, record, kill=record.state is JobState.RUNNING)
    remove(services, task_id)
    log.info("job_released", task_id=task_id, state=record.state, stopped=stopped)
    return Response(status_code=204) if stopped else _stopping(task_id)


def remove(services: Services, task_id: str) -> None:
    """Remove what lies outside the record. Safe to repeat."""
    services.cache.folder(task_id).remove()
    try:
        services.dispatch.forget(task_id)
    except AWAY as exc:  # it expires by itself
        log.warning("result_not_forgotten", task_id=task_id, error=type(exc).__name__)


def clean_up_again(services: Services, task_id: str, caller: Caller) -> None:
    """Finish an earlier release that was cut short after the record had gone."""
    if is_task_id(task_id) and services.store.is_gone(task_id, caller.name):
        remove(services, task_id)


def _stopping(task_id: str) -> Response:
    body = Stopping(task_id=task_id, detail="everything is removed; the worker is still being stopped")
    return Response(body.model_dump_json(), status_code=202, media_type="application/json")
