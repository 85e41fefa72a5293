"""Makes the Redis client, the job store and the cache that settings describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis

from worker import streams
from worker.cache import Cache
from worker.jobs import JobStore

if TYPE_CHECKING:
    from worker.settings import Settings


def create_client(settings: Settings, *, timeout_s: float = 5.0) -> redis.Redis:
    """A client for job records: strings in and out, and no call that hangs with a frozen server."""
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        decode_responses=True,
        socket_timeout=timeout_s,
        socket_connect_timeout=2.0,
        health_check_interval=30,
    )


def create_store(settings: Settings, client: redis.Redis) -> JobStore:
    return JobStore(client, group=streams.GROUP, expiry_s=settings.cache_expiry)


def create_cache(settings: Settings) -> Cache:
    return Cache(settings.cache_dir.absolute(), settings.min_free_bytes)
