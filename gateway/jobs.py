"""GET /jobs: the caller's jobs, newest first, a page at a time."""

import base64
import binascii
import math
import time
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from gateway.access import CallerOf
from gateway.errors import InvalidRequest
from gateway.openapi import problems
from gateway.services import Services, ServicesOf
from gateway.status import JobStatus, Status, by_record, view
from worker.cache.folder import is_task_id
from worker.heartbeat import live_workers
from worker.jobs import JobRecord, JobState, OwnerBooks
from worker.jobs.estimate import waiting_eta_s
from worker.jobs.owners import Place

router = APIRouter()

USUAL, MOST = 50, 200
LONGEST_CURSOR = 128


class JobPage(BaseModel):
    jobs: list[JobStatus]
    next_cursor: str | None = Field(description="Leads to the older ones; null where there are none.")


@router.get("/jobs", tags=["jobs"], responses=problems(InvalidRequest))
def list_jobs(
    services: ServicesOf,
    caller: CallerOf,
    state: Annotated[Status | None, Query(description="Only jobs of this status.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST, description="Jobs at most.")] = USUAL,
    cursor: Annotated[
        str | None, Query(max_length=LONGEST_CURSOR, description="next_cursor of a page.")
    ] = None,
) -> JobPage:
    """Your jobs, newest first. Jobs that come in meanwhile move no other to another page."""
    books = OwnerBooks(services.client)
    after = place_of(cursor) if cursor else None
    states = [found for found in JobState if state in {None, by_record(found)}]
    places = books.newest(caller.name, states, limit=limit + 1, after=after)
    shown = places[:limit]
    records = books.records([place.task_id for place in shown])
    return JobPage(
        jobs=statuses(services, [record for record in records if record.owner == caller.name]),
        next_cursor=cursor_of(shown[-1]) if len(places) > limit else None,
    )


def statuses(services: Services, records: list[JobRecord]) -> list[JobStatus]:
    """As /status would tell, but by the records alone, and with one look at the queue for all."""
    positions = services.store.positions(record.id for record in records if record.state is JobState.WAITING)
    load = services.store.load() if positions else None
    workers = len(live_workers(services.client, time.time())) if positions else 0
    shown = []
    for record in records:
        position = positions.get(record.id)
        eta_s = record.eta_s
        if load is not None and position is not None:
            eta_s = waiting_eta_s(load, position, record.size_bytes, workers)
        shown.append(view(record, by_record(record.state), position, eta_s))
    return shown


def cursor_of(place: Place) -> str:
    """Opaque to clients: what is in it may change."""
    text = f"{place.created_at!r} {place.task_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    """Raises InvalidRequest for what is no cursor of ours."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        created_at, _, task_id = (
            base64.b64decode(padded, altchars="-_", validate=True).decode().partition(" ")
        )
        place = Place(float(created_at), task_id)
    except (ValueError, binascii.Error) as exc:
        raise bad_cursor() from exc
    if not (math.isfinite(place.created_at) and is_task_id(task_id)):
        raise bad_cursor()
    return place


def bad_cursor() -> InvalidRequest:
    message = "the cursor is none of ours: use next_cursor as it was given"
    return InvalidRequest(message, field="cursor", kind="cursor", where="query")
