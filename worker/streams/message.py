"""Stream entries as values, and as the messages that kombu delivers.

Fields of an entry: ``m`` the message as JSON, ``n`` how many attempts at it have failed, ``r`` how often it
was put back for whatever reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.streams.bases import dumps, loads, text
from worker.streams.keys import lease_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis


@dataclass(frozen=True, slots=True)
class Entry:
    """One delivery: an entry as its consumer was given it."""

    stream: str
    entry_id: str
    fields: Mapping[str, str]

    @property
    def lease_id(self) -> str:
        return lease_id(self.entry_id, self.stream)

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return int(self.fields.get("n", 0)) + 1

    @property
    def redelivered(self) -> bool:
        return int(self.fields.get("r", 0)) > 0


def fields_for(message: Mapping[str, Any]) -> dict[str, str | int]:
    """A new entry's fields."""
    return {"m": dumps(message), "n": 0, "r": 0}


def entries_in(reply: Any) -> list[Entry]:
    """The entries of a raw XREADGROUP reply: a list of pairs in RESP2, a map in RESP3, or nothing."""
    streams = reply.items() if isinstance(reply, dict) else reply or ()
    return [
        Entry(text(stream), text(entry_id), pairs(fields))
        for stream, entries in streams
        for entry_id, fields in entries
    ]


def read_range(client: redis.Redis, stream: str, first: str, count: int) -> list[tuple[str, dict[str, str]]]:
    """Up to ``count`` entries from ``first`` on, "(id" for those after it, as ids and fields."""
    found: Any = client.xrange(stream, min=first, count=count)
    return [(text(entry_id), texts_of(fields)) for entry_id, fields in found]


def texts_of(fields: Mapping[Any, Any]) -> dict[str, str]:
    return {text(name): text(value) for name, value in fields.items()}


def pairs(flat: list[Any] | None) -> dict[str, str]:
    """A flat list of fields and values as a mapping; a deleted entry has none."""
    texts = [text(item) for item in flat or ()]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def to_kombu(entry: Entry) -> dict[str, Any]:
    """The message to deliver; the task sees ``self.request.attempt`` and ``self.request.lease_id``.

    Headers, because Celery hands those to the task, but drops what it doesn't know from delivery_info.
    Raises ValueError where the entry holds no message.
    """
    message = parse_message(entry.fields.get("m", ""))
    try:
        properties, headers = message["properties"], message["headers"]
        properties["delivery_tag"] = entry.lease_id
        properties["delivery_info"]["redelivered"] = entry.redelivered
        headers.update(attempt=entry.attempt, lease_id=entry.lease_id)
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"entry {entry.lease_id} holds no message") from exc
    return message


def parse_message(payload: str | bytes) -> dict[str, Any]:
    """The message of an entry; empty where a stranger wrote something else."""
    try:
        message = loads(text(payload))
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def task_id_of(message: Mapping[str, Any]) -> str:
    """Celery's task id; empty for a message that is no task."""
    headers = message.get("headers")
    return str(headers.get("id", "")) if isinstance(headers, dict) else ""
