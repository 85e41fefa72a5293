"""Who waits for news of a job: thousands may, for one subscription and no thread.

Each change of a job's record is published with the job's id (worker/jobs/scripts). One task of this process
listens, and wakes those who wait for that job. What they read then is read once for all of them. Where a
message may have been missed, all are woken: nobody relies on hearing every one. On the event loop alone.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import redis.asyncio

from worker.jobs.keys import CHANGES
from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

log = get_logger(__name__)

T = TypeVar("T")
RECONNECT_S = 1.0
STALE_S = 15.0  # what was read so long ago is read again, whatever was heard


class Topic(Generic[T]):
    """One job, and all who wait for it.

    Args:
        read: What is news. Called by one of them for all; its exceptions are everyone's.
    """

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._changed = asyncio.Event()
        self._reading: asyncio.Task[T] | None = None
        self._read_version = -1
        self._read_at = 0.0
        self.version = 0
        self.waiters = 0

    def wake(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def news(self) -> T:
        """The job as it is after the change that was heard last."""
        stale = time.monotonic() - self._read_at > STALE_S
        if self._reading is None or self._read_version != self.version or stale:
            self._read_version, self._read_at = self.version, time.monotonic()
            self._reading = asyncio.create_task(_read(self._read))
            self._reading.add_done_callback(_retrieve)
        return await asyncio.shield(self._reading)

    async def changed(self, seen: int, within_s: float) -> None:
        """Wait until the version is no longer ``seen``, for so long at most."""
        if self.version == seen:
            try:
                async with asyncio.timeout(within_s):
                    await self._changed.wait()
            except TimeoutError:
                return


class Changes(Generic[T]):
    """Connects when somebody waits for the first time.

    Args:
        client: For the subscription; closed with this object.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._topics: dict[str, Topic[T]] = {}
        self._listener: asyncio.Task[None] | None = None
        self.is_closing = False

    @contextmanager
    def watch(self, task_id: str, read: Callable[[], Awaitable[T]]) -> Iterator[Topic[T]]:
        """The job's topic. What changes after this was entered is heard.

        Args:
            read: What is news of the job. One waiter's serves all: only those who may see the job may wait.
        """
        self._start()
        topic = self._topics.setdefault(task_id, Topic(read))
        topic.waiters += 1
        try:
            yield topic
        finally:
            topic.waiters -= 1
            if not topic.waiters:
                self._topics.pop(task_id, None)

    def dismiss(self) -> None:
        """Let all who wait answer with what they have: this process is about to stop. Safe to repeat."""
        self.is_closing = True
        self._wake_all()

    async def close(self) -> None:
        self.dismiss()
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        await self._client.aclose()

    def _start(self) -> None:
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            try:
                await self._follow()
            except (redis.RedisError, OSError) as exc:
                log.warning("changes_not_heard", error=type(exc).__name__)
            await asyncio.sleep(RECONNECT_S)

    async def _follow(self) -> None:
        """Until the connection breaks for good. redis-py subscribes again by itself after a short break."""
        async with self._client.pubsub() as subscription:
            await subscription.subscribe(CHANGES)
            async for message in subscription.listen():
                if message["type"] == "message":
                    self._wake(message["data"])
                else:
                    self._wake_all()  # subscribed, for the first time or again: what was before is unknown

    def _wake(self, task_id: str) -> None:
        topic = self._topics.get(task_id)
        if topic is not None:
            topic.wake()

    def _wake_all(self) -> None:
        for topic in self._topics.values():
            topic.wake()


async def _read(read: Callable[[], Awaitable[T]]) -> T:
    return await read()


def _retrieve(reading: asyncio.Task[T]) -> None:
    """So that nobody complains of an exception for which nobody waits any more."""
    if not reading.cancelled():
        reading.exception()
