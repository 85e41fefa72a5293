"""What a client is told about a job: one word for its state, and the record's other news."""

import time
from datetime import UTC, datetime
from enum import StrEnum

from celery import states as celery_states
from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.access import CallerOf
from gateway.lookup import find
from gateway.openapi import problems
from gateway.services import Services, ServicesOf
from worker.delivery.document import ResultWarning
from worker.errors import Cancelled, JobGone, JobNotFound
from worker.heartbeat import live_workers
from worker.jobs import JobRecord, JobState
from worker.jobs.estimate import waiting_eta_s

router = APIRouter()


class Status(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


_BY_RECORD = {
    JobState.WAITING: Status.PENDING,
    JobState.RUNNING: Status.PROCESSING,
    JobState.COMPLETED: Status.COMPLETED,
    JobState.FAILED: Status.FAILED,
}


def by_record(state: JobState) -> Status:
    """The word for a record's state, where Celery is not asked."""
    return _BY_RECORD[state]


def project(celery_state: str, record: JobRecord) -> Status:
    """The one word for a job's state.

    A record in a final state wins: it is the commit that only the attempt with the lease could make. Before
    that, Celery's REVOKED ends the job: an operator did it, and the sweeper is about to record it. Its
    SUCCESS and FAILURE do not: Celery stores them behind the commit, or for an attempt that could not reach
    the record, and a client that is told of an end must be able to count on it. For the rest the record is
    nearer to the truth: it is claimed in one step with the lease, STARTED and RETRY are written around it.
    """
    if not record.state.is_final and celery_state == celery_states.REVOKED:
        return Status.FAILED
    return _BY_RECORD[record.state]


class Progress(BaseModel):
    step: str
    number: int = Field(description="Of this step, from 1.")
    of: int = Field(description="Number of steps.")
    fraction: float = Field(ge=0, le=1, description="Part of the work that is done.")
    eta_s: float | None = Field(description="Seconds that are probably left; null before there is a speed.")


class JobFailure(BaseModel):
    """Why a job has failed."""

    code: str = Field(description="Stable; see docs/errors.md.")
    message: str
    step: str | None = Field(description="Where it failed; null before the first step.")


class Links(BaseModel):
    """Paths, relative to the server's root."""

    status: str
    download: str
    release: str


class JobStatus(BaseModel):
    task_id: str
    status: Status
    progress: Progress | None = Field(description="Only while processing.")
    position: int | None = Field(description="Place in the queue, from 1; only while pending.")
    eta_s: float | None = Field(description="Seconds until it has probably ended; null where unknown.")
    created_at: datetime
    started_at: datetime | None = Field(description="Start of the latest attempt.")
    ended_at: datetime | None
    expires_at: datetime | None = Field(description="When record and files are removed.")
    attempt: int = Field(description="Number of the latest attempt; 0 before the first.")
    partial: bool = Field(description="The result lacks what a failed step would have given; see warnings.")
    warnings: list[ResultWarning]
    error: JobFailure | None = Field(description="Only where the job has failed.")
    links: Links


@router.get("/status/{task_id}", tags=["jobs"], responses=problems(JobNotFound, JobGone))
def read_status(task_id: str, services: ServicesOf, caller: CallerOf) -> JobStatus:
    """How far a job is."""
    # The record first: whose job it is, and whether it is one (Celery calls any unknown id PENDING).
    record = find(services.store, task_id, caller)
    celery_state = services.dispatch.state(task_id)
    if celery_state == celery_states.REVOKED:  # an end that came in between wins, and is in the record only
        record = find(services.store, task_id, caller)
    status = project(celery_state, record)
    position = services.store.position(task_id) if status is Status.PENDING else None
    return view(record, status, position, eta_s(services, record, position))


def eta_s(services: Services, record: JobRecord, position: int | None) -> float | None:
    if position is None:
        return record.eta_s
    workers = len(live_workers(services.client, time.time()))
    return waiting_eta_s(services.store.load(), position, record.size_bytes, workers)


def view(record: JobRecord, status: Status, position: int | None, eta_s: float | None) -> JobStatus:
    """The record in the words of the API. Pure."""
    return JobStatus(
        task_id=record.id,
        status=status,
        progress=_progress(record) if status is Status.PROCESSING else None,
        position=position,
        eta_s=eta_s,
        created_at=_utc(record.created_at),
        started_at=_maybe_utc(record.started_at),
        ended_at=_maybe_utc(record.ended_at),
        expires_at=_maybe_utc(record.expires_at),
        attempt=record.attempt,
        partial=record.partial,
        warnings=[ResultWarning.model_validate(warning) for warning in record.warnings],
        error=_failure(record) if status is Status.FAILED else None,
        links=links(record.id),
    )


def links(task_id: str) -> Links:
    return Links(status=f"/status/{task_id}", download=f"/download/{task_id}", release=f"/release/{task_id}")


def wait_s(record: JobRecord) -> int:
    """When it is worth asking again: at the job's end as it looks now, within reason."""
    soonest, latest = 2, 60
    return int(min(max(record.eta_s or soonest, soonest), latest))


def _progress(record: JobRecord) -> Progress | None:
    if not record.step:
        return None
    return Progress(
        step=record.step,
        number=record.step_number,
        of=record.step_of,
        fraction=record.fraction,
        eta_s=record.eta_s,
    )


def _failure(record: JobRecord) -> JobFailure:
    """The record's error; where only Celery knows of the end yet, what that means."""
    if record.error_code:
        return JobFailure(
            code=record.error_code, message=record.error_message, step=record.error_step or None
        )
    return JobFailure(code=Cancelled.code, message="the job was cancelled", step=record.step or None)


def _utc(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


def _maybe_utc(unix_s: float | None) -> datetime | None:
    return None if unix_s is None else _utc(unix_s)
