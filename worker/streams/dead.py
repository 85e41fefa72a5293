"""Dead letters: jobs whose every attempt died. Their entries stay until an operator drops or replays them.

Whoever records a dead job's end reads them as the group ``reaper``: what it hasn't marked as handled comes
again, also after it died itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis

from worker.streams import scripts
from worker.streams.bases import text
from worker.streams.keys import DEFAULT_PREFIX, REAPER_GROUP, QueueKeys
from worker.streams.message import parse_message, read_range, task_id_of, texts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BATCH = 100
_CONSUMER = "reaper"  # one name for all: whoever comes next finds what its predecessor left


@dataclass(frozen=True, slots=True)
class DeadEntry:
    """``why`` tells how the last attempt ended, ``lease_id`` names its delivery."""

    entry_id: str
    task_id: str
    attempts: int
    why: str
    lease_id: str
    message: dict[str, Any] = field(repr=False)


def unhandled_dead(client: redis.Redis, queue: str, prefix: str = DEFAULT_PREFIX) -> Iterator[DeadEntry]:
    """Dead letters that nobody has marked as handled yet, oldest first.

    Two readers at once may both get an entry: handling must be safe to repeat.
    """
    stream = QueueKeys(queue, prefix).dead
    if not client.exists(stream):
        return
    _ensure_group(client, stream)
    yield from _left_behind(client, stream)
    while batch := _read(client, stream, ">"):
        yield from (_dead_entry(entry_id, fields) for entry_id, fields in batch)


def mark_handled(client: redis.Redis, queue: str, entry: DeadEntry, prefix: str = DEFAULT_PREFIX) -> None:
    """The reaper has done its part; the entry stays for the operator. Safe to repeat."""
    client.xack(QueueKeys(queue, prefix).dead, REAPER_GROUP, entry.entry_id)


def list_dead(
    client: redis.Redis, queue: str, *, after: str = "-", count: int = BATCH, prefix: str = DEFAULT_PREFIX
) -> list[DeadEntry]:
    """Up to ``count`` dead letters, oldest first, following the entry id ``after``."""
    first = after if after == "-" else f"({after}"
    found = read_range(client, QueueKeys(queue, prefix).dead, first, count)
    return [_dead_entry(entry_id, fields) for entry_id, fields in found]


def drop_dead(client: redis.Redis, queue: str, entry_id: str, prefix: str = DEFAULT_PREFIX) -> bool:
    """Delete a dead letter for good; False if there is none."""
    stream = QueueKeys(queue, prefix).dead
    deleted = bool(client.xdel(stream, entry_id))
    client.xack(stream, REAPER_GROUP, entry_id)
    return deleted


def replay_dead(client: redis.Redis, queue: str, entry_id: str, prefix: str = DEFAULT_PREFIX) -> bool:
    """Let a dead letter wait at the front of its queue again, as if never tried; False if there is none."""
    keys = QueueKeys(queue, prefix)
    return bool(scripts.run(client, scripts.REPLAY, [keys.dead, keys.front], [entry_id]))


def _ensure_group(client: redis.Redis, stream: str) -> None:
    try:
        client.xgroup_create(stream, REAPER_GROUP, id="0")
    except redis.ResponseError as exc:
        if "BUSYGROUP" not in str(exc):
            raise


def _left_behind(client: redis.Redis, stream: str) -> Iterator[DeadEntry]:
    cursor = "0"
    while batch := _read(client, stream, cursor):
        for entry_id, fields in batch:
            cursor = text(entry_id)
            if fields:
                yield _dead_entry(entry_id, fields)
            else:  # dropped or replayed by the operator meanwhile
                client.xack(stream, REAPER_GROUP, cursor)


def _read(client: redis.Redis, stream: str, start: str) -> list[tuple[Any, Any]]:
    reply: Any = client.xreadgroup(REAPER_GROUP, _CONSUMER, {stream: start}, count=BATCH)
    if not reply:
        return []
    # RESP3 maps each stream to a list of pages, RESP2 pairs it with its entries.
    return list(next(iter(reply.values()))[0]) if isinstance(reply, dict) else list(reply[0][1])


def _dead_entry(entry_id: str | bytes, fields: Mapping[Any, Any]) -> DeadEntry:
    texts = texts_of(fields)
    message = parse_message(texts.get("m", ""))
    return DeadEntry(
        entry_id=text(entry_id),
        task_id=task_id_of(message),
        attempts=int(texts.get("n", 0)),
        why=texts.get("why", ""),
        lease_id=texts.get("from", ""),
        message=message,
    )
