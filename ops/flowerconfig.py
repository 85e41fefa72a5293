"""Flower's configuration file: teaches Flower to count the entries of our streams.

Flower picks its broker class by the URL's scheme and knows Redis lists only; without this its queue
lengths answer 404.
"""

from __future__ import annotations

from typing import Any

import flower.views
from flower.utils.broker import Redis

from worker import streams


class StreamBroker(Redis):
    """Queue lengths as the transport counts them: entries that no worker has been given yet."""

    async def queues(self, names: list[str]) -> list[dict[str, Any]]:
        try:
            return [{"name": name, "messages": await self._waiting(name)} for name in names]
        finally:
            await self.redis.aclose()

    async def _waiting(self, name: str) -> int:
        count = 0
        for stream in streams.QueueKeys(name).readable:
            if await self.redis.exists(stream):
                groups = await self.redis.xpending(stream, streams.GROUP)
                count += await self.redis.xlen(stream) - groups["pending"]
        return count


_stock_broker = flower.views.Broker


def broker(url: str, *args: Any, **kwargs: Any) -> Any:
    """What Flower calls for a broker; ours for our scheme, Flower's own for any other."""
    if url.startswith(streams.SCHEME):
        return StreamBroker(url, *args, **kwargs)
    return _stock_broker(url, *args, **kwargs)


flower.views.Broker = broker
