"""What a client is told about a job: one word for its state, and the record's other news."""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from celery import states as celery_states
from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from gateway.access import CallerOf
from gateway.changes import STALE_S, Changes, Topic
from gateway.errors import InvalidRequest
from gateway.keys import Caller
from gateway.lookup import find
from gateway.openapi import problems
from gateway.services import Services, ServicesOf
from worker.delivery.document import ResultWarning
from worker.delivery.webhook_rules import DeliveryState, Event
from worker.delivery.webhook_store import Delivery
from worker.errors import Cancelled, JobGone, JobNotFound
from worker.heartbeat import live_workers
from worker.jobs import JobRecord, JobState
from worker.jobs.estimate import waiting_eta_s
from worker.patience import AWAY

router = APIRouter()

LONGEST_WAIT_S = 60.0


class Status(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return self in {Status.COMPLETED, Status.FAILED}


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


class WebhookTry(BaseModel):
    at: datetime
    status: int | None = Field(description="Of the answer; null where there was none.")
    error: str | None = Field(description="Why there was no answer; see docs/delivery.md.")
    ms: int


class WebhookDelivery(BaseModel):
    """One event on its way to the job's webhook_url."""

    event: Event
    state: DeliveryState
    tries: int
    next_at: datetime | None = Field(description="When it is tried next; null where it is not.")
    log: list[WebhookTry] = Field(description="The last tries.")


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
    s3_urls: list[str] = Field(description="Where the result was delivered; empty while it is here.")
    webhooks: list[WebhookDelivery] = Field(description="What became of the news of the job's end.")
    links: Links


async def _changes(request: Request) -> Changes[JobStatus]:
    changes: Changes[JobStatus] = request.app.state.changes
    return changes


ChangesOf = Annotated[Changes[JobStatus], Depends(_changes)]


@router.get("/status/{task_id}", tags=["jobs"], responses=problems(JobNotFound, JobGone, InvalidRequest))
async def read_status(
    task_id: str,
    services: ServicesOf,
    caller: CallerOf,
    changes: ChangesOf,
    wait_s: Annotated[
        float,
        Query(
            ge=0, le=LONGEST_WAIT_S, description="Answer when the status changes, or after so many seconds."
        ),
    ] = 0,
) -> JobStatus:
    """How far a job is."""
    read = reader(services, task_id, caller)
    now = await read()
    if not wait_s or now.status.is_final:
        return now
    with changes.watch(task_id, read) as topic:
        return await next_status(changes, topic, now, wait_s)


async def next_status(
    changes: Changes[JobStatus], topic: Topic[JobStatus], first: JobStatus, within_s: float
) -> JobStatus:
    """The job when its status has changed; as it is then where that does not happen in time."""
    ends, now = time.monotonic() + within_s, first
    while True:
        seen = topic.version
        with suppress(*AWAY):  # the client has time: it is told what is known at the end of it
            now = await topic.news()
        left_s = ends - time.monotonic()
        if now.status is not first.status or changes.is_closing or left_s <= 0:
            return now
        await topic.changed(seen, min(left_s, STALE_S))


def reader(services: Services, task_id: str, caller: Caller) -> Callable[[], Awaitable[JobStatus]]:
    return lambda: run_in_threadpool(current, services, task_id, caller)


def current(services: Services, task_id: str, caller: Caller) -> JobStatus:
    """Blocking: it asks Redis.

    Raises:
        JobNotFound, JobGone
    """
    # The record first: whose job it is, and whether it is one (Celery calls any unknown id PENDING).
    record = find(services.store, task_id, caller)
    celery_state = services.dispatch.state(task_id)
    if celery_state == celery_states.REVOKED:  # an end that came in between wins, and is in the record only
        record = find(services.store, task_id, caller)
    status = project(celery_state, record)
    position = services.store.position(task_id) if status is Status.PENDING else None
    webhooks = services.webhooks.read(task_id) if record.webhook_url and record.state.is_final else []
    return view(record, status, position, eta_s(services, record, position), webhooks)


def eta_s(services: Services, record: JobRecord, position: int | None) -> float | None:
    if position is None:
        return record.eta_s
    workers = len(live_workers(services.client, time.time()))
    return waiting_eta_s(services.store.load(), position, record.size_bytes, workers)


def view(
    record: JobRecord,
    status: Status,
    position: int | None,
    eta_s: float | None,
    webhooks: Sequence[Delivery] = (),
) -> JobStatus:
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
        s3_urls=record.s3_urls,
        webhooks=[_delivery(webhook) for webhook in webhooks],
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


def _delivery(found: Delivery) -> WebhookDelivery:
    log = [WebhookTry(at=_utc(t.at), status=t.status, error=t.error or None, ms=t.ms) for t in found.log]
    return WebhookDelivery(
        event=found.event, state=found.state, tries=found.tries, next_at=_maybe_utc(found.next_at), log=log
    )


def _utc(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


def _maybe_utc(unix_s: float | None) -> datetime | None:
    return None if unix_s is None else _utc(unix_s)
