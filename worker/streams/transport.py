"""The transport: kombu's Redis transport with our channel, and its event loop told about streams."""

from __future__ import annotations

from typing import Any

import redis
from kombu.transport import TRANSPORT_ALIASES

from worker.streams.bases import RedisPoller, RedisTransport
from worker.streams.channel import Channel
from worker.streams.options import Options

SCHEME = "redis-streams"
TLS_SCHEME = "rediss-streams"


class Poller(RedisPoller):
    """Kombu's poller, which leaves replies unread while there is no room. A stream's must be read."""

    def on_readable(self, fileno: int) -> Any:
        channel, kind = self._fd_to_chan.get(fileno, (None, None))
        if kind == "BRPOP" and channel._in_poll and channel._asked:  # noqa: SLF001
            return channel._brpop_read()  # noqa: SLF001
        return super().on_readable(fileno)

    def maybe_restore_messages(self) -> None:
        """Tend every channel; kombu stops at the first."""
        for channel in [channel for channel in self._channels if channel.streaming]:
            try:
                channel.tend()
            except channel.connection_errors:
                return  # the event loop is about to notice
        if not any(channel.streaming for channel in self._channels):
            super().maybe_restore_messages()

    def _pause_brpop(self, channel: Any, fileno: int) -> None:
        if not channel.streaming:  # an entry in an unread reply is leased, and nobody renews it
            super()._pause_brpop(channel, fileno)


class Transport(RedisTransport):
    """``driver_type`` stays "redis": Celery tests it for events, gossip and worker_disable_prefetch."""

    Channel = Channel

    def __init__(self, client: Any, **kwargs: Any) -> None:
        self.options = Options.from_transport_options(client.transport_options)
        super().__init__(client, **kwargs)
        self.cycle = Poller()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        # Kombu's own interval is for visibility timeouts of an hour. Under its name, so that it is
        # cancelled with kombu's at a reconnect.
        self.cycle._restore_messages_tref.cancel()  # noqa: SLF001
        self.cycle._restore_messages_tref = loop.call_repeatedly(  # noqa: SLF001
            self.options.sweep_s, self.cycle.maybe_restore_messages
        )


class TlsChannel(Channel):
    connection_class = redis.SSLConnection


class TlsTransport(Transport):
    Channel = TlsChannel


def register() -> None:
    """Make the schemes known to kombu in this process. Safe to repeat."""
    TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"
    TRANSPORT_ALIASES[TLS_SCHEME] = f"{__name__}:TlsTransport"


def broker_url(redis_url: str) -> str:
    """The ``broker_url`` of a redis:// or rediss:// URL; also registers the transport.

    Raises ValueError for any other scheme.
    """
    register()
    scheme, separator, rest = redis_url.partition("://")
    schemes = {"redis": SCHEME, "rediss": TLS_SCHEME}
    if not separator or scheme not in schemes:
        raise ValueError("the broker's URL must start with redis:// or rediss://")
    return f"{schemes[scheme]}://{rest}"
