"""Kombu's classes and helpers, without its types.

Kombu says that it is typed, but only some of its functions are, and class attributes that hold None until
they are set have the type None. Here everything of kombu is Any, in one place.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as _redis
from kombu.transport import virtual as _virtual
from kombu.utils import json as _json

RedisChannel: Any = _redis.Channel
RedisPoller: Any = _redis.MultiChannelPoller
RedisQoS: Any = _redis.QoS
RedisTransport: Any = _redis.Transport
VirtualQoS: Any = _virtual.QoS

dumps: Any = _json.dumps
loads: Any = _json.loads


def text(value: Any) -> str:
    """A reply's string, whether or not the client decodes replies."""
    return value.decode() if isinstance(value, bytes) else str(value)
