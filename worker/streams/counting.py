"""Numbers about a queue, and scans of it. The numbers cost the same however long the queue is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.streams import scripts
from worker.streams.keys import DEFAULT_PREFIX, GROUP, QueueKeys
from worker.streams.levels import LEVELS
from worker.streams.message import parse_message, read_range, task_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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


def lease_losses(client: redis.Redis, queue: str, prefix: str = DEFAULT_PREFIX) -> dict[str, int]:
    """How many leases have ended unrenewed, whoever swept, by what came of the entry: requeued or dead.

    Counted since the queue was last deleted.
    """
    outcomes = ("requeued", "dead")
    found = client.hmget(QueueKeys(queue, prefix).guard, outcomes)
    return {outcome: int(count or 0) for outcome, count in zip(outcomes, found, strict=True)}


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


def drop_tasks(
    client: redis.Redis,
    queue: str,
    unwanted: Callable[[set[str]], set[str]],
    prefix: str = DEFAULT_PREFIX,
) -> set[str]:
    """Delete the entries of the tasks that ``unwanted`` picks out of those it is shown; their ids.

    Reads the whole queue, in batches. An entry that a worker holds meanwhile is deleted as well: its lease
    ends as usual, and nobody gets it again.
    """
    dropped: set[str] = set()
    for stream in QueueKeys(queue, prefix).readable:
        first = "-"
        while batch := read_range(client, stream, first, SCAN_BATCH):
            tasks = [(entry_id, task_id_of(parse_message(fields.get("m", "")))) for entry_id, fields in batch]
            picked = unwanted({task_id for _, task_id in tasks if task_id})
            doomed = [entry_id for entry_id, task_id in tasks if task_id in picked]
            if doomed:
                client.xdel(stream, *doomed)
            dropped |= picked
            first = f"({batch[-1][0]}"
    return dropped


def _task_ids(client: redis.Redis, stream: str) -> Iterator[str]:
    first = "-"
    while batch := read_range(client, stream, first, SCAN_BATCH):
        yield from (task_id_of(parse_message(fields.get("m", ""))) for _, fields in batch)
        first = f"({batch[-1][0]}"
