"""POST /transcribe: from a request to an accepted job.

The order is the guarantee: the recording is durable, then the record says that the job is accepted, then
its entry goes to the stream. A crash in between leaves a folder without a record, which the sweeper
removes, or a record without an entry, which it publishes: the job exists whole or not at all.
"""

import time
from enum import StrEnum

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from gateway.access import CallerOf
from gateway.errors import InvalidRequest, NotMultipart, UploadStalled
from gateway.keys import Caller
from gateway.openapi import multipart_body, problems
from gateway.services import Services, ServicesOf
from gateway.status import Links, Status, links
from gateway.upload import Upload
from worker.errors import BadRequest, BrokerAway, DiskFull, EmptyRecording, NotWav, QueueFull, TooLarge
from worker.jobs import JobRecord, JobState, JobStore
from worker.logs import get_logger
from worker.patience import AWAY

log = get_logger(__name__)
router = APIRouter()

PAUSES_S = (0.1, 0.5)  # between the tries to have a job accepted
RETRY_AFTER_FULL_QUEUE_S = 60


class Accepted(BaseModel):
    """A job that will end in exactly one result or one error."""

    task_id: str
    status: Status = Field(description="pending")
    links: Links


@router.post(
    "/transcribe",
    status_code=202,
    tags=["jobs"],
    openapi_extra=multipart_body(),
    responses={
        202: {"headers": {"Location": {"description": "The job's status.", "schema": {"type": "string"}}}},
        **problems(
            BadRequest,
            EmptyRecording,
            UploadStalled,
            TooLarge,
            NotMultipart,
            NotWav,
            InvalidRequest,
            QueueFull,
            DiskFull,
        ),
    },
)
async def transcribe(
    request: Request, response: Response, services: ServicesOf, caller: CallerOf
) -> Accepted:
    """Upload a recording; a job is made of it."""
    services.receiver.check(request)
    await run_in_threadpool(refuse_if_full, services)
    upload = await services.receiver.receive(request)
    request.state.task_id = upload.task_id
    # In one thread, to its end: a shutdown that cancels this request can't part the steps.
    await run_in_threadpool(take, services, upload, caller)
    answer = Accepted(task_id=upload.task_id, status=Status.PENDING, links=links(upload.task_id))
    response.headers["Location"] = answer.links.status
    return answer


def refuse_if_full(services: Services) -> None:
    """Spare the client an upload that would be refused at its end."""
    if services.store.counts().waiting >= services.settings.max_waiting_jobs:
        raise queue_full()


def take(services: Services, upload: Upload, caller: Caller) -> None:
    """Accept the job and publish it.

    Raises:
        QueueFull: and nothing is left of the upload.
        BrokerAway: The store did not say whether it took the job. The folder stays: the record may exist,
            and an accepted job without its recording could only fail. If it does exist, the sweeper
            publishes the job; if not, it removes the folder after ORPHAN_GRACE_S.
    """
    record = JobRecord(
        id=upload.task_id,
        state=JobState.WAITING,
        owner=caller.name,
        source="upload",
        file_name=upload.file_name,
        size_bytes=upload.size_bytes,
        created_at=time.time(),
        priority=upload.request.priority,
        options=upload.request.options,
    )
    answer = ask_to_accept(services.store, record, services.settings.max_waiting_jobs)
    if answer is Answer.NO:
        upload.folder.remove()
        raise queue_full()
    if answer is Answer.NONE:
        raise BrokerAway(
            "the job store does not answer, and may or may not have taken this job: "
            f"ask for /status/{upload.task_id} before sending the recording again"
        )
    publish(services, record)


class Answer(StrEnum):
    YES = "yes"
    NO = "no"
    NONE = "none"


def ask_to_accept(store: JobStore, record: JobRecord, max_waiting: int) -> Answer:
    """Have the record written; safe to repeat, so a lost answer is asked for again."""
    unanswered = False
    for pause_s in (*PAUSES_S, 0):
        try:
            accepted = store.accept(record, max_waiting=max_waiting)
        except AWAY as exc:
            unanswered = True
            log.warning("accept_unanswered", task_id=record.id, error=type(exc).__name__)
            time.sleep(pause_s)
            continue
        # After a try without an answer, "the queue is full" is none either: the server may have that try
        # still before it, in the buffer of a connection that we have given up.
        return Answer.YES if accepted else (Answer.NONE if unanswered else Answer.NO)
    return Answer.NONE


def publish(services: Services, record: JobRecord) -> None:
    """Add the entry to the stream; where that fails, leave it to the sweeper."""
    try:
        services.dispatch.publish(record.id, record.priority)
    except Exception as exc:  # noqa: BLE001  the job is accepted: no error may tell the client otherwise
        log.warning("publish_deferred", task_id=record.id, error=type(exc).__name__)


def queue_full() -> QueueFull:
    return QueueFull("too many jobs are waiting: try again later", retry_after_s=RETRY_AFTER_FULL_QUEUE_S)
