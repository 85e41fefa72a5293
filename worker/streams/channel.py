"""The consuming side of a channel: reads, deliveries, and what a worker does every few seconds."""

from __future__ import annotations

import logging
import os
import time
from queue import Empty
from typing import TYPE_CHECKING, Any

from worker.streams import scripts
from worker.streams.keepers import keeper_for
from worker.streams.keys import GROUP
from worker.streams.message import Entry, entries_in, to_kombu
from worker.streams.qos import QoS
from worker.streams.queues import StreamQueues
from worker.streams.requests import running_leases
from worker.streams.sweeping import sweep

if TYPE_CHECKING:
    from worker.streams.leases import LeaseKeeper

log = logging.getLogger(__name__)

_RAW = "_RAW"  # a command name for which redis-py has no callback: the reply comes as the server sent it
_PAUSE_AFTER_ERROR_S = 1.0


class Channel(StreamQueues):
    """Reads streams on kombu's poll connection, one entry at a time.

    Kombu calls the blocking read of its lists BRPOP; that slot of its event loop is ours.
    """

    QoS = QoS

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        self._asked: dict[str, str] = {}  # the streams of the read in flight, with their queues
        self._turn = 0  # entries taken so far: every so often, lower priorities come first
        self._block = False  # the last read found nothing: let the next one wait on the server
        self._read_again_at = 0.0
        self._no_ack: set[str] = set()
        self._suspects: set[str] = set()
        self._tended_at = float("-inf")
        self._leases: LeaseKeeper | None = None
        super().__init__(connection, **kwargs)

    @property
    def streaming(self) -> bool:
        """Whether this channel consumes streams; a channel consumes streams or lists, never both."""
        queues = self.active_queues
        return bool(queues) and self.is_stream(queues[0])

    @property
    def leases(self) -> LeaseKeeper:
        """The process's keeper. Also after ``close``: attempts outlive their channel."""
        if self._leases is None or self._leases.pid != os.getpid():
            self._leases = keeper_for(self._connparams(), self.options)
        return self._leases

    def basic_consume(self, queue: str, no_ack: bool = False, *args: Any, **kwargs: Any) -> Any:
        if any(self.is_stream(queue) != self.is_stream(other) for other in self.active_queues):
            raise ValueError(f"{queue}: one channel can't consume streams and lists")
        if no_ack:
            self._no_ack.add(queue)
        else:
            self._no_ack.discard(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        message = super().basic_get(queue, no_ack=no_ack, **kwargs)
        if message is not None and no_ack and self.is_stream(queue):
            self.leases.ack(message.delivery_tag)
        return message

    def tend(self) -> None:
        """Every few seconds: renew, give back what Celery forgot, reclaim what others lost."""
        now = time.monotonic()
        if now - self._tended_at < self.options.sweep_s / 2:  # kombu's blocking consumers call at every poll
            return
        self._tended_at = now
        if not self.leases.renew():  # so as never to reclaim from ourselves after a stall
            return
        self.qos.forget_lost()
        self._return_orphans()
        if self.options.sweep:
            self._sweep()

    def close(self) -> None:
        self._closing = True
        self._finish_read()
        if self._qos is not None:
            self._qos.restore_unacked_once()
        super().close()

    def _sweep(self) -> None:
        try:
            for lost in sweep(self.redis, self.active_queues, self.options):
                log.warning("lease_expired: %r", lost)  # the sweeper's word for it, for one grep
        except self.ResponseError as exc:  # out of memory, read-only: what expired waits for a later sweep
            log.warning("could not sweep: %s", exc)

    def _return_orphans(self) -> None:
        """Give back the attempts that survived a reconnect but are neither running nor answered.

        Celery forgets them without an answer where it is set to cancel jobs on connection loss. Seen twice,
        because an answer may still wait for its turn in the event loop.
        """
        orphans = self.leases.survivors() - running_leases()
        for lease in orphans & self._suspects:
            self.leases.give_back(lease, counted=True, why="cancelled after a connection loss")
        self._suspects = orphans

    def _brpop_start(self, timeout: float | None = None) -> None:
        if not self.streaming:
            super()._brpop_start(timeout)
            return
        asked = self._streams_by_urgency()
        if not asked or time.monotonic() < self._read_again_at:
            return
        connection = self.client.connection
        self._in_poll, self._brpop_sent_at, self._asked = connection, time.monotonic(), asked
        connection.send_command(*self._read_command(list(asked)))

    def _streams_by_urgency(self) -> dict[str, str]:
        """Every queue's front before any queue's levels, one by one; queues in kombu's fair order."""
        queues = self._queue_cycle.consume(len(self.active_queues))
        by_level = zip(*(self.options.keys(queue).in_turn(self._turn) for queue in queues), strict=True)
        return {stream: queue for level in by_level for stream, queue in zip(level, queues, strict=True)}

    def _read_command(self, streams: list[str]) -> list[Any]:
        consumer = self.leases.consumer
        if not self._block:
            return ["EVAL", scripts.source(scripts.READ), len(streams), *streams, GROUP, consumer]
        block_ms = int((self.brpop_timeout or 1) * 1000)
        read = ["XREADGROUP", "GROUP", GROUP, consumer, "COUNT", 1, "BLOCK", block_ms, "STREAMS"]
        return [*read, *streams, *[">"] * len(streams)]

    def _brpop_read(self, **options: Any) -> bool:
        if not self._asked:
            return bool(super()._brpop_read(**options))
        if not self._deliver_one(self._receive_entries()):
            raise Empty
        return True

    def _receive_entries(self) -> list[Entry]:
        """The reply to the read in flight. Each entry is a lease from here on."""
        connection = self.client.connection
        try:
            entries = entries_in(self.client.parse_response(connection, _RAW))
        except self.ResponseError as exc:
            self._note_refused(exc)
            return []
        except self.connection_errors:
            connection.disconnect()
            raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        self._block = not entries
        self._turn += len(entries)
        for entry in entries:
            self.leases.add(entry.lease_id)
        return [entry for entry in entries if self._is_fresh() or self.leases.confirm(entry.lease_id)]

    def _is_fresh(self) -> bool:
        """Whether the reply can't have lain unread, in a process that was frozen, while its lease expired."""
        return bool(time.monotonic() - self._brpop_sent_at < self.options.lease_s / 2)

    def _note_refused(self, exc: Exception) -> None:
        self._block = False
        if "NOGROUP" not in str(exc):  # of a new queue, or a wiped server: the script, read next, makes it
            log.error("could not read: %s", exc)
            self._read_again_at = time.monotonic() + _PAUSE_AFTER_ERROR_S

    def _deliver_one(self, entries: list[Entry]) -> bool:
        """Deliver the most urgent entry: a blocking read gives up to one per stream."""
        delivered = False
        for entry in entries:
            if delivered or not self._wants(self._asked[entry.stream]):
                self.leases.give_back(entry.lease_id, counted=False, why="no room")
            else:
                delivered = self._deliver(entry, self._asked[entry.stream])
        return delivered

    def _wants(self, queue: str) -> bool:
        return not self._closing and queue in self.connection._callbacks and self.qos.can_consume()  # noqa: SLF001

    def _deliver(self, entry: Entry, queue: str) -> bool:
        try:
            message = to_kombu(entry)
        except ValueError as exc:
            self.leases.bury(entry.lease_id, str(exc))
            return False
        if queue in self._no_ack:
            self.leases.ack(entry.lease_id)
        self._queue_cycle.rotate(queue)
        self.connection._deliver(message, queue)  # noqa: SLF001  kombu's name for it
        return True

    def _poll_error(self, type: str, **options: Any) -> Any:  # noqa: A002  kombu's name
        if type == "BRPOP" and self._asked:
            return self._brpop_read()
        return super()._poll_error(type, **options)

    def _finish_read(self) -> None:
        """Take what the server may have given to a read that nobody waits for any more, and return it."""
        connection = self._in_poll
        if not self._asked or not connection:
            return
        try:
            if not connection.can_read(timeout=(self.brpop_timeout or 1) + 1):
                connection.disconnect()  # its late reply would be taken for that of the next command
                return
            for entry in self._receive_entries():
                self.leases.give_back(entry.lease_id, counted=False, why="not consuming any more")
        except self.connection_errors as exc:
            log.warning("could not finish the last read: %r", exc)  # what it took expires
            self._in_poll = None

    def _basic_cancel(self, consumer_tag: str) -> None:
        super()._basic_cancel(consumer_tag)
        if not self.active_queues:
            self._finish_read()

    def _get(self, queue: str) -> dict[str, Any]:
        if not self.is_stream(queue):
            return dict(super()._get(queue))
        keys = self.options.keys(queue).in_turn(self._turn)
        entries = entries_in(scripts.run(self.redis, scripts.READ, keys, [GROUP, self.leases.consumer]))
        if not entries:
            raise Empty
        self._turn += 1
        self.leases.add(entries[0].lease_id)
        return to_kombu(entries[0])
