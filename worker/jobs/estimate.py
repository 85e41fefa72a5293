"""What is known of the queue in numbers, and when a waiting job will probably have ended.

Arithmetic on sums that are kept, not on the queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.jobs.priority import Priority

_HALF_DONE = 0.5  # what runs is, on average, half done


@dataclass(frozen=True)
class Counts:
    """``oldest_waiting``: when the job that has waited longest was accepted, in Unix seconds."""

    waiting_by_priority: dict[Priority, int]
    running: int
    oldest_waiting: float | None

    @property
    def waiting(self) -> int:
        return sum(self.waiting_by_priority.values())


@dataclass(frozen=True)
class Load:
    """``done_bytes`` in ``done_seconds``: recordings lately finished by one worker, weighted to the newest.

    Bytes, because they are known of every recording before it is opened.
    """

    waiting: int
    running: int
    waiting_bytes: int
    done_bytes: float
    done_seconds: float


@dataclass(frozen=True)
class Expiry:
    """``expired``: jobs removed at the end of their lives, ever. ``next_at``: Unix seconds; None: no more."""

    expired: int
    next_at: float | None

    def lag_s(self, now: float) -> float:
        """How long the oldest job has been past its expiry."""
        return max(0.0, now - self.next_at) if self.next_at is not None else 0.0


def waiting_eta_s(load: Load, position: int, size_bytes: int, workers: int) -> float | None:
    """Seconds until the job at ``position`` (from 1) has probably ended.

    None before there is a speed to go by, while there is no worker, and where the recording, or all that
    wait, are yet to be fetched: of those the size is not known. The recordings ahead are taken to be as long
    as those that wait are on average.
    """
    if not (load.done_bytes and load.done_seconds and workers and load.waiting_bytes and size_bytes):
        return None
    average_bytes = load.waiting_bytes / load.waiting
    ahead_bytes = average_bytes * (position - 1 + _HALF_DONE * load.running)
    speed = load.done_bytes / load.done_seconds
    return round(ahead_bytes / speed / workers + size_bytes / speed, 1)
