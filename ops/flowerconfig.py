"""Flower's configuration file: teaches Flower to count the entries of our streams.

Flower picks its broker class by the URL's scheme and knows Redis lists only; without this its queue
lengths answer 404.
"""

from __future__ import annotations

import asyncio
from typing import Any

import flower.views
import redis
from flower.utils.broker import BrokerBase

from worker import streams

TIMEOUT_S = 2.0


class StreamBroker(BrokerBase):
    """Queue lengths as the transport counts them: entries that no worker has been given yet."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._client = redis.Redis.from_url(
            url.replace(streams.SCHEME, "redis", 1),
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
        )

    async def queues(self, names: list[str]) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self._count, names)

    def _count(self, names: list[str]) -> list[dict[str, Any]]:
        with self._client as client:
            return [{"name": name, "messages": streams.stats(client, name).waiting} for name in names]


_stock_broker = flower.views.Broker


def broker(url: str, *args: Any, **kwargs: Any) -> Any:
    """What Flower calls for a broker; ours for our scheme, Flower's own for any other."""
    return StreamBroker(url) if url.startswith(streams.SCHEME) else _stock_broker(url, *args, **kwargs)


flower.views.Broker = broker
