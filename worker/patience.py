"""Waiting for Redis to come back, where giving up would lose finished work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import redis

from worker.logs import get_logger
from worker.streams.results import is_passing_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)

T = TypeVar("T")
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0
AWAY = (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.ReadOnlyError)
"""Reasons to try again later: a server that is full or read-only is as good as away. See also is_away."""


def is_away(exc: BaseException) -> bool:
    """AWAY, or a refusal that redis-py has no class for: the server can't write to its disk."""
    return isinstance(exc, AWAY) or (isinstance(exc, Exception) and is_passing_refusal(exc))


def patiently(call: Callable[[], T]) -> T:
    """Call until Redis answers, for ever. ``call`` must be safe to repeat: an answer can get lost.

    Only where there is nothing better to do: in a worker's child, which holds a job under a lease, and at
    the start of a worker or sweeper.
    """
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return call()
        except redis.RedisError as exc:
            if not is_away(exc):
                raise
            log.warning("redis_away", error=type(exc).__name__, wait_s=wait_s)
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
