"""POST /transcribe: from a request to an accepted job.

The order is the guarantee: the recording is durable (or its URL looks fit for a worker to fetch), then the
record says that the job is accepted, then its entry goes to the stream. A crash in between leaves a folder
without a record, which the sweeper removes, or a record without an entry, which it publishes: the job
exists whole or not at all.
"""

import time
from dataclasses import dataclass, replace

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from gateway.access import CallerOf
from gateway.admission import limits_of, refusal, refuse_early
from gateway.errors import (
    InFlight,
    InvalidRequest,
    KeyReused,
    S3NotConfigured,
    TooManyWaiting,
    TooMuchStored,
    UnsupportedBody,
    UploadStalled,
    WebhookNotConfigured,
)
from gateway.idempotency import Claim, IdempotencyKey, claimed
from gateway.intake import Upload
from gateway.keys import Caller
from gateway.openapi import problems, submission
from gateway.services import Services, ServicesOf
from gateway.status import Links, Status, links
from gateway.upload import declared_bytes
from worker.errors import BadRequest, BrokerAway, DiskFull, EmptyRecording, QueueFull, TooLarge
from worker.jobs import Admission, JobRecord, JobState, Once
from worker.logs import get_logger
from worker.patience import AWAY

log = get_logger(__name__)
router = APIRouter()

PAUSES_S = (0.1, 0.5)  # between the tries to have a job accepted


class Accepted(BaseModel):
    """A job that will end in exactly one result or one error."""

    task_id: str
    status: Status = Field(description="pending")
    links: Links


@router.post(
    "/transcribe",
    status_code=202,
    tags=["jobs"],
    openapi_extra=submission(),
    responses={
        202: {"headers": {"Location": {"description": "The job's status.", "schema": {"type": "string"}}}},
        **problems(
            BadRequest,
            EmptyRecording,
            UploadStalled,
            TooLarge,
            UnsupportedBody,
            InvalidRequest,
            InFlight,
            KeyReused,
            TooManyWaiting,
            TooMuchStored,
            S3NotConfigured,
            WebhookNotConfigured,
            QueueFull,
            DiskFull,
        ),
    },
)
async def transcribe(
    request: Request,
    response: Response,
    services: ServicesOf,
    caller: CallerOf,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Upload a recording, or name its URL; a job is made of it."""
    services.receiver.check(request)
    async with claimed(services.client, caller.name, idempotency_key) as claim:

        def admit() -> None:
            if not claim.is_known:
                refuse_early(services, caller.name, declared_bytes(request) or 0)

        def accept(upload: Upload) -> str:
            request.state.task_id = upload.task_id
            return take(services, upload, caller, claim, origin)

        origin = Origin(request.state.request_id, request.state.traceparent)
        task_id = await services.receiver.receive(request, admit, accept, caller.name, hashed=bool(claim.key))
    request.state.task_id = task_id
    answer = Accepted(task_id=task_id, status=Status.PENDING, links=links(task_id))
    response.headers["Location"] = answer.links.status
    return answer


@dataclass(frozen=True)
class Origin:
    """The request that a job comes from: its id in the logs, and its span."""

    request_id: str
    traceparent: str


def take(services: Services, upload: Upload, caller: Caller, claim: Claim, origin: Origin) -> str:
    """Accept the job and publish it; its id, or that of the job that the same request made before.

    Raises:
        QueueFull, TooManyWaiting, TooMuchStored, KeyReused: and nothing is left of the upload.
        BrokerAway: The store did not say whether it took the job. The folder stays: the record may exist,
            and an accepted job without its recording could only fail. If it does exist, the sweeper
            publishes the job; if not, it removes the folder after ORPHAN_GRACE_S.
    """
    span = services.tracing.begin("enqueue", "producer", origin.traceparent, task_id=upload.task_id)
    try:
        record = record_of(upload, caller, replace(origin, traceparent=span.traceparent))
        return accept_once(services, upload, record, claim)
    finally:
        span.end()


def record_of(upload: Upload, caller: Caller, origin: Origin) -> JobRecord:
    return JobRecord(
        id=upload.task_id,
        state=JobState.WAITING,
        owner=caller.name,
        source="upload" if upload.request.url is None else "url",
        url=upload.request.url or "",
        file_name=upload.file_name,
        size_bytes=upload.size_bytes,
        created_at=time.time(),
        priority=upload.request.priority,
        options=upload.request.options,
        s3_path=upload.request.s3_path or "",
        webhook_url=upload.request.webhook_url or "",
        request_id=origin.request_id,
        traceparent=origin.traceparent,
    )


def accept_once(services: Services, upload: Upload, record: JobRecord, claim: Claim) -> str:
    answer = ask_to_accept(services, record, claim.once(upload.request, upload.sha256))
    admission = answer.admission
    if admission is None or (answer.is_late and not admission):
        raise BrokerAway(
            "the job store does not answer, and may or may not have taken this job: "
            f"ask for /status/{upload.task_id} before sending the recording again"
        )
    if admission.task_id != record.id and not answer.is_late:
        upload.folder.remove()
    if not admission:
        raise refusal(admission.verdict)
    if admission.task_id == record.id:
        log.info("job_accepted", task_id=record.id, request_id=record.request_id)
        publish(services, record)
    return admission.task_id


@dataclass(frozen=True)
class Answer:
    """``admission``: None where the store did not answer.

    ``is_late``: an earlier try had no answer. The server may have it still before it, in the buffer of a
    connection that we have given up, so "no" is no answer either.
    """

    admission: Admission | None
    is_late: bool


def ask_to_accept(services: Services, record: JobRecord, once: Once | None) -> Answer:
    """Have the record written; safe to repeat, so a lost answer is asked for again."""
    settings = services.settings
    is_late = False
    for pause_s in (*PAUSES_S, 0):
        try:
            admission = services.store.accept(
                record, max_waiting=settings.max_waiting_jobs, limits=limits_of(settings), once=once
            )
            return Answer(admission, is_late)
        except AWAY as exc:
            is_late = True
            log.warning("accept_unanswered", task_id=record.id, error=type(exc).__name__)
            time.sleep(pause_s)
    return Answer(None, is_late)


def publish(services: Services, record: JobRecord) -> None:
    """Add the entry to the stream; where that fails, leave it to the sweeper."""
    try:
        services.dispatch.publish(record.id, record.priority)
    except Exception as exc:  # noqa: BLE001  the job is accepted: no error may tell the client otherwise
        log.warning("publish_deferred", task_id=record.id, error=type(exc).__name__)
