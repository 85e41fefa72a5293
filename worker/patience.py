"""Waiting for Redis to come back, where giving up would lose finished work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import redis

from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)

T = TypeVar("T")
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0
# Reasons to try again later. A server that is full or read-only is as good as away.
AWAY = (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.ReadOnlyError)


def patiently(call: Callable[[], T]) -> T:
    """Call until Redis answers, for ever. ``call`` must be safe to repeat: an answer can get lost.

    Only for a worker's child: it holds a job under a lease, and has nothing better to do.
    """
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return call()
        except AWAY as exc:
            log.warning("redis_away", error=type(exc).__name__, wait_s=wait_s)
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
