"""Reclaiming: the leases of workers that have gone silent end, and their jobs go to others.

Any process may sweep, at any time; only continuous sweeping reclaims (see ``Options.max_sweep_gap_s``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from worker.streams import scripts
from worker.streams.bases import text
from worker.streams.keys import GROUP
from worker.streams.message import parse_message, task_id_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

    from worker.streams.options import Options

BATCH = 100
CONSUMER_FORGOTTEN_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """One delivery that was taken from a silent consumer.

    ``idle_ms`` is the time since its last renewal by the server's clock, ``attempts`` how many have failed
    by now. ``outcome``: to the front of its queue, or, after the last attempt, to the dead letters.
    """

    queue: str
    task_id: str
    entry_id: str
    consumer: str
    idle_ms: int
    attempts: int
    outcome: Literal["requeued", "dead"]
    message: dict[str, Any] = field(repr=False)


def sweep(client: redis.Redis, queues: Iterable[str], options: Options) -> list[Reclaimed]:
    """End the expired leases of these queues: at most ``BATCH`` a stream, the rest at the next call."""
    return [lost for queue in queues for lost in _sweep_queue(client, queue, options)]


def _sweep_queue(client: redis.Redis, queue: str, options: Options) -> list[Reclaimed]:
    keys = options.keys(queue)
    rows = scripts.run(
        client,
        scripts.SWEEP,
        [keys.guard, keys.dead, *keys.readable],
        [
            GROUP,
            int(options.lease_s * 1000),
            int(options.max_sweep_gap_s * 1000),
            BATCH,
            options.max_attempts,
            CONSUMER_FORGOTTEN_MS,
        ],
    )
    return [_reclaimed(queue, row) for row in rows]


def _reclaimed(queue: str, row: list[Any]) -> Reclaimed:
    outcome, entry_id, consumer, idle_ms, attempts, payload = row
    dead = text(outcome) == "dead"
    message = parse_message(payload)
    return Reclaimed(
        queue=queue,
        task_id=task_id_of(message),
        entry_id=text(entry_id),
        consumer=text(consumer),
        idle_ms=int(idle_ms),
        attempts=int(attempts),
        outcome="dead" if dead else "requeued",
        message=message,
    )
