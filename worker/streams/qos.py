"""Deliveries of one channel: how many it may have, and what becomes of them."""

from __future__ import annotations

from typing import Any

from worker.streams.bases import RedisQoS, VirtualQoS
from worker.streams.hooks import hooks
from worker.streams.keys import is_lease_id
from worker.streams.requests import running_leases


class QoS(RedisQoS):
    """Routes the deliveries of streams to the process's LeaseKeeper, all others to kombu."""

    def can_consume(self) -> bool:
        if not self.channel.streaming:
            return bool(super().can_consume())
        return hooks.gate() and self._has_credit()

    def append(self, message: Any, delivery_tag: str) -> None:
        if is_lease_id(delivery_tag):
            VirtualQoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        if not is_lease_id(delivery_tag):
            super().ack(delivery_tag)
            return
        self.channel.leases.ack(delivery_tag)
        self._quick_ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if not is_lease_id(delivery_tag):
            super().reject(delivery_tag, requeue)
            return
        if requeue:
            # Celery's word for a child that died, whose cause worker_requests has noted; and anyone's.
            self.channel.leases.give_back(delivery_tag, counted=True, why="rejected")
        else:
            self.channel.leases.ack(delivery_tag)
        self._quick_ack(delivery_tag)

    def give_back(self, delivery_tag: str, why: str) -> None:
        """Put a stream's delivery back to the front of its queue: it has not been tried."""
        self.channel.leases.give_back(delivery_tag, counted=False, why=why)
        self._quick_ack(delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """The channel is going: by a shutdown, or by a reconnect, while children work on.

        What runs keeps its lease, the rest is given back, so that an idle worker may have it.
        """
        self._on_collect.cancel()
        self._flush()
        self._release_streams()
        super().restore_unacked_once(stderr)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Kombu's regular call to recover lost deliveries."""
        if self.channel.streaming:
            self.channel.tend()
        else:
            super().restore_visible(*args, **kwargs)

    def forget_lost(self) -> None:
        """Let go of deliveries that went to another worker: nobody will ever answer them."""
        for tag in list(self._delivered):
            if is_lease_id(tag) and not self.channel.leases.has(tag):
                self._quick_ack(tag)

    def _has_credit(self) -> bool:
        if not self.prefetch_count:
            return True
        # An attempt that survived a reconnect occupies a child, though this channel never delivered it.
        own = len(self._delivered) - len(self._dirty)
        return own + len(self.channel.leases.survivors()) < int(self.prefetch_count)

    def _release_streams(self) -> None:
        leases, running = self.channel.leases, running_leases()
        for tag in [tag for tag in self._delivered if is_lease_id(tag)]:
            del self._delivered[tag]
            if tag in running:
                leases.survive(tag)
            elif leases.holds(tag):
                leases.give_back(tag, counted=False, why="channel closed")
