"""Every Redis key of a queue, and how a delivery is named.

The table of types, writers, readers and lifetimes is in docs/streams.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.streams.levels import LEVELS, reading_order

if TYPE_CHECKING:
    from worker.streams.levels import Level

GROUP = "celery"
"""Consumer group of the workers, on the streams that they read."""

REAPER_GROUP = "reaper"
"""Consumer group on the dead-letter stream of whoever records a dead job's end."""

DEFAULT_PREFIX = "q:"

_STREAMS: dict[Level, str] = {"high": "high", "normal": "main", "low": "low"}


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue. The braces are a hash tag: a script's keys must share a slot."""

    queue: str
    prefix: str = DEFAULT_PREFIX

    @property
    def main(self) -> str:
        """Entries of normal priority."""
        return self.level("normal")

    def level(self, level: Level) -> str:
        return f"{self._base}:{_STREAMS[level]}"

    @property
    def front(self) -> str:
        """Entries that were given back or reclaimed, of whatever priority: read before all others."""
        return f"{self._base}:front"

    @property
    def dead(self) -> str:
        return f"{self._base}:dead"

    @property
    def guard(self) -> str:
        return f"{self._base}:guard"

    @property
    def readable(self) -> tuple[str, ...]:
        """The streams that workers read, most urgent first."""
        return (self.front, *map(self.level, LEVELS))

    def in_turn(self, turn: int) -> tuple[str, ...]:
        """The same, in the order of a worker's read number ``turn``."""
        return (self.front, *map(self.level, reading_order(turn)))

    @property
    def _base(self) -> str:
        return f"{self.prefix}{{{self.queue}}}"


def front_and_dead(stream: str) -> tuple[str, str]:
    """Where an entry of ``stream`` goes when its lease ends without an acknowledgement."""
    base = stream.rpartition(":")[0]
    return f"{base}:front", f"{base}:dead"


def lease_id(entry_id: str, stream: str) -> str:
    """Names one delivery, for ever: whoever is given the job next holds another entry."""
    return f"{entry_id}@{stream}"


def is_lease_id(delivery_tag: str) -> bool:
    """Whether kombu's delivery tag is ours; those of its lists are UUIDs."""
    return "@" in delivery_tag


def split_lease_id(lease: str) -> tuple[str, str]:
    """A lease id's stream and entry id."""
    entry_id, _, stream = lease.partition("@")
    return stream, entry_id
