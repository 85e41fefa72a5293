"""GET /queue: how much is waiting, at a cost that does not grow with it."""

import time

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.openapi import problems
from gateway.services import ServicesOf

router = APIRouter()


class Backlog(BaseModel):
    waiting: int
    processing: int
    oldest_waiting_age_s: float | None = Field(description="Since it was accepted; null where none waits.")


@router.get("/queue", tags=["service"], responses=problems())
def read_queue(services: ServicesOf) -> Backlog:
    """How many jobs wait and run."""
    waiting, processing, oldest = services.store.counts()
    age_s = None if oldest is None else round(max(0.0, time.time() - oldest), 3)
    return Backlog(waiting=waiting, processing=processing, oldest_waiting_age_s=age_s)
