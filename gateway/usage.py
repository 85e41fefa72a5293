"""GET /usage: what each owner's jobs take up, for the operator."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.access import OperatorOf
from gateway.openapi import problems
from gateway.services import ServicesOf
from gateway.status import Status, by_record
from worker.jobs import OwnerBooks

router = APIRouter()


class OwnerUsage(BaseModel):
    owner: str = Field(description="An API key's name, or 'anonymous'.")
    jobs: dict[Status, int] = Field(description="How many there are now, by status.")
    stored_bytes: int = Field(description="What they hold in the cache now.")
    audio_s: float = Field(description="Seconds transcribed, jobs that are gone included.")


class Usage(BaseModel):
    owners: list[OwnerUsage] = Field(description="Everyone who ever had a job, by name.")


@router.get("/usage", tags=["operator"], responses=problems())
def read_usage(services: ServicesOf, _operator: OperatorOf) -> Usage:
    """Jobs, stored bytes and audio of each owner. Needs an operator's key."""
    return Usage(
        owners=[
            OwnerUsage(
                owner=found.owner,
                jobs={by_record(state): count for state, count in found.jobs.items()},
                stored_bytes=found.stored_bytes,
                audio_s=found.audio_s,
            )
            for found in OwnerBooks(services.client).usage()
        ]
    )
