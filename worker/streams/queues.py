"""Kombu's Redis channel with streams in the place of lists: all that needs no consumer.

Fanout (events, remote control) and the reply queues of remote control stay as kombu made them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis

from worker.streams import scripts
from worker.streams.bases import RedisChannel
from worker.streams.counting import stats
from worker.streams.keys import GROUP
from worker.streams.levels import level_of
from worker.streams.message import fields_for

if TYPE_CHECKING:
    from worker.streams.options import Options

_PURGE_BATCH = 1000


class StreamQueues(RedisChannel):
    """Publish, count, purge, delete."""

    # A publisher must not wait for ever on a server that is frozen, or gone without closing.
    socket_timeout = 10.0
    socket_connect_timeout = 5.0

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        self.options: Options = connection.options
        self._stream_client: redis.Redis | None = None
        super().__init__(connection, **kwargs)

    def is_stream(self, queue: str) -> bool:
        return not queue.endswith(".pidbox") and queue not in self._fanout_queues

    @property
    def redis(self) -> redis.Redis:
        """A client that adds no prefix: kombu's own knows no stream commands, and our keys are whole."""
        if self._stream_client is None or self._stream_client.connection_pool is not self.pool:
            self._stream_client = redis.Redis(connection_pool=self.pool)
        return self._stream_client

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        if not self.is_stream(queue):
            super()._put(queue, message, **kwargs)
            return
        level = level_of(self._get_message_priority(message))
        stream, fields = self.options.keys(queue).level(level), fields_for(message)
        batch = kwargs.get("_publish_batch")
        # Never a MAXLEN: trimming would throw waiting jobs away.
        if batch is not None:
            batch.add("xadd", stream, fields)
        else:
            self.redis.xadd(stream, fields)  # type: ignore[arg-type]  # a mapping of str | int

    def _size(self, queue: str) -> int:
        if not self.is_stream(queue):
            return int(super()._size(queue))
        return stats(self.redis, queue, self.options.prefix).waiting

    def _purge(self, queue: str) -> int:
        if not self.is_stream(queue):
            return int(super()._purge(queue))
        return sum(self._purge_stream(stream) for stream in self.options.keys(queue).readable)

    def _purge_stream(self, stream: str) -> int:
        total = 0
        while deleted := int(scripts.run(self.redis, scripts.PURGE, [stream], [GROUP, _PURGE_BATCH])):
            total += deleted
        return total

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        if not self.is_stream(queue):
            return bool(super()._has_queue(queue, **kwargs))
        return bool(self.redis.exists(*self.options.keys(queue).readable))

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        super()._delete(queue, *args, **kwargs)
        if self.is_stream(queue):
            keys = self.options.keys(queue)
            self.redis.delete(*keys.readable, keys.guard)  # dead letters are the operator's
