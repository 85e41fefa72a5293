"""Numbers about a queue. All but the scan cost the same however long the queue is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.streams import scripts
from worker.streams.keys import DEFAULT_PREFIX, GROUP, QueueKeys
from worker.streams.levels import LEVELS
from worker.streams.message import parse_message, read_range, task_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import redis

SCAN_BATCH = 500


@dataclass(frozen=True, slots=True)
class QueueStats:
    """``waiting``: given to no worker yet. ``in_flight``: leased. ``dead``: kept for the operator.

    ``oldest_waiting_s``: seconds, by the server's clock, since the oldest waiting entry was published or
    put back; None when nothing waits. ``by_level``: those that wait, by "front" (put back, of whatever
    priority), "high", "normal" and "low".
    """

    waiting: int
    in_flight: int
    dead: int
    oldest_waiting_s: float | None
    by_level: Mapping[str, int] = field(default_factory=dict, compare=False)


def stats(client: redis.Redis, queue: str, prefix: str = DEFAULT_PREFIX) -> QueueStats:
    keys = QueueKeys(queue, prefix)
    found = scripts.run(client, scripts.STATS, [keys.dead, *keys.readable], [GROUP])
    in_flight, dead, oldest_ms, waiting = found
    by_level = dict(zip(("front", *LEVELS), waiting, strict=True))
    return QueueStats(sum(waiting), in_flight, dead, None if oldest_ms < 0 else oldest_ms / 1000, by_level)


def entry_count(client: redis.Redis, queue: str, prefix: str = DEFAULT_PREFIX) -> int:
    """Entries that wait or are worked on, without the dead."""
    return sum(int(client.xlen(stream)) for stream in QueueKeys(queue, prefix).readable)


def scan_task_ids(client: redis.Redis, queue: str, prefix: str = DEFAULT_PREFIX) -> set[str]:
    """The task id of every entry, dead letters included. Reads the whole queue, in batches.

    In the order in which entries move (levels, front, dead), each stream from old to new, so that no entry
    escapes by moving meanwhile; only a replayed dead letter could.
    """
    keys = QueueKeys(queue, prefix)
    streams = (*map(keys.level, LEVELS), keys.front, keys.dead)
    return {task_id for stream in streams for task_id in _task_ids(client, stream)}


def _task_ids(client: redis.Redis, stream: str) -> Iterator[str]:
    first = "-"
    while batch := read_range(client, stream, first, SCAN_BATCH):
        yield from (task_id_of(parse_message(fields.get("m", ""))) for _, fields in batch)
        first = f"({batch[-1][0]}"
