"""How urgent a job is, and where that puts it among the waiting."""

from __future__ import annotations

from enum import StrEnum


class Priority(StrEnum):
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


# Of the waiting index: further apart than any two times of acceptance, near enough to zero that a double
# still tells times apart that differ by 20 microseconds.
_OFFSET_S = {Priority.HIGH: -1e11, Priority.NORMAL: 0.0, Priority.LOW: 1e11}


def waiting_score(priority: Priority, created_at: float) -> float:
    """Score in the waiting index: by priority first, then by age."""
    return created_at + _OFFSET_S[priority]


def accepted_at(priority: Priority, score: float) -> float:
    """The reverse of ``waiting_score``, in Unix seconds."""
    return score - _OFFSET_S[priority]
