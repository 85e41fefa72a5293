"""GET /queue: how much is waiting, at a cost that does not grow with it."""

import time

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.openapi import problems
from gateway.services import ServicesOf
from worker.jobs import Priority

router = APIRouter()


class Backlog(BaseModel):
    waiting: int
    waiting_by_priority: dict[Priority, int]
    processing: int
    oldest_waiting_age_s: float | None = Field(description="Since it was accepted; null where none waits.")


@router.get("/queue", tags=["service"], responses=problems())
def read_queue(services: ServicesOf) -> Backlog:
    """How many jobs wait and run."""
    counts = services.store.counts()
    oldest = counts.oldest_waiting
    return Backlog(
        waiting=counts.waiting,
        waiting_by_priority=counts.waiting_by_priority,
        processing=counts.running,
        oldest_waiting_age_s=None if oldest is None else round(max(0.0, time.time() - oldest), 3),
    )
