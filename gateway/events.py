"""GET /events: a job's news as they come (server-sent events), until its end."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from gateway.access import CallerOf
from gateway.changes import Changes
from gateway.openapi import problems
from gateway.problems import describe, error_of
from gateway.services import ServicesOf
from gateway.status import ChangesOf, JobStatus, reader
from worker.errors import JobGone, JobNotFound, ServiceError
from worker.patience import AWAY

router = APIRouter()

HEARTBEAT_S = 15.0  # proxies close connections on which nothing passes
HEARTBEAT = ": still here\n\n"


@router.get(
    "/events/{task_id}",
    tags=["jobs"],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events `status`, each with the body of GET /status as its data, and `error`, "
            "with a problem, where the job is gone. The stream ends behind a final state.",
            "content": {"text/event-stream": {}},  # OpenAPI 3.1 has no word for the events in it
        },
        **problems(JobNotFound, JobGone),
    },
)
async def read_events(
    task_id: str, services: ServicesOf, caller: CallerOf, changes: ChangesOf
) -> StreamingResponse:
    """Follow a job to its end."""
    read = reader(services, task_id, caller)
    first = await read()
    return StreamingResponse(
        news_of(changes, task_id, read, first),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},  # nginx would keep the events until there are many
    )


async def news_of(
    changes: Changes[JobStatus], task_id: str, read: Callable[[], Awaitable[JobStatus]], first: JobStatus
) -> AsyncIterator[str]:
    """Ends behind a final state, when the job is gone, and when this process stops."""
    last = first
    yield event("status", last)
    with changes.watch(task_id, read) as topic:
        spoke_at = time.monotonic()
        while not (last.status.is_final or changes.is_closing):
            seen = topic.version
            try:
                now = await topic.news()
            except ServiceError as exc:
                yield event("error", describe(error_of(exc)))
                return
            except AWAY:
                now = last  # the client has waited for longer than an outage
            if now != last:
                yield event("status", now)
            elif time.monotonic() - spoke_at >= HEARTBEAT_S:
                yield HEARTBEAT
            else:
                await topic.changed(seen, HEARTBEAT_S)
                continue
            last, spoke_at = now, time.monotonic()


def event(name: str, data: BaseModel) -> str:
    return f"event: {name}\ndata: {data.model_dump_json(exclude_none=name == 'error')}\n\n"
