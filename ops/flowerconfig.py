"""Flower's configuration file: teaches Flower to count the entries of our streams and to show progress.

Flower picks its broker class by the URL's scheme and knows Redis lists only; without this its queue
lengths answer 404. And it knows of a task only what Celery's events tell, so that one that has run for an
hour looks like one that has just begun.
"""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING, Any

import flower.views
import redis
from flower.utils.broker import BrokerBase

from ops.flower_progress import ProgressFeed
from worker import streams
from worker.app import MAINTENANCE_QUEUE, TRANSCRIBE_QUEUE
from worker.resources import create_client, create_store
from worker.settings import load_settings
from worker.tasks import TRANSCRIBE_TASK

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 2.0

tasks_columns = "name,uuid,state,result,received,started,runtime,worker"  # read by Flower, as is format_task


class StreamBroker(BrokerBase):
    """Queue lengths as the transport counts them, whether a worker is there or not."""

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
        # Flower knows the queues of workers that have answered; ours are there without any.
        ours = {TRANSCRIBE_QUEUE, MAINTENANCE_QUEUE}
        with self._client as client:
            return [row for name in sorted({*names, *ours}) for row in rows_of(client, name)]


def rows_of(client: redis.Redis, name: str) -> Iterator[dict[str, Any]]:
    """A queue as a whole; below it, what waits in each of its streams, and its dead letters."""
    stats = streams.stats(client, name)
    yield {
        "name": name,
        "messages": stats.waiting,
        "messages_ready": stats.waiting,
        "messages_unacknowledged": stats.in_flight,
    }
    if name == TRANSCRIBE_QUEUE:
        for level, waiting in {**stats.by_level, "dead letters": stats.dead}.items():
            yield {"name": f"{name}: {level}", "messages": waiting}


_stock_broker = flower.views.Broker


def broker(url: str, *args: Any, **kwargs: Any) -> Any:
    """What Flower calls for a broker; ours for our scheme, Flower's own for any other."""
    return StreamBroker(url) if url.startswith(streams.SCHEME) else _stock_broker(url, *args, **kwargs)


flower.views.Broker = broker


@cache
def feed() -> ProgressFeed:
    settings = load_settings()
    return ProgressFeed(create_store(settings, create_client(settings, timeout_s=TIMEOUT_S)))


def format_task(task: Any) -> Any:
    """Called with a copy of each task that is shown: the result of one that runs is where it is."""
    if task.name == TRANSCRIBE_TASK and task.state == "STARTED":
        task.result = feed().of(task.uuid)
    return task
