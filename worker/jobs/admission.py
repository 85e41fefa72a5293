"""What is asked of the store when a job is to be accepted, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class OwnerLimits:
    """What one owner's jobs may take up; 0: as much as there is."""

    waiting: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True)
class Once:
    """A request that makes one job however often it is sent.

    ``key``: the Redis key that remembers it; ``fingerprint``: what tells it from another request.
    """

    key: str
    fingerprint: str


class Verdict(StrEnum):
    ACCEPTED = "accepted"
    KEY_REUSED = "key_reused"
    QUEUE_FULL = "queue_full"
    OWNER_WAITS = "owner_waits"
    OWNER_STORES = "owner_stores"


@dataclass(frozen=True)
class Admission:
    """``task_id``: of the accepted job, which is an earlier one where the request was a repetition."""

    verdict: Verdict
    task_id: str

    def __bool__(self) -> bool:
        return self.verdict is Verdict.ACCEPTED
