from __future__ import annotations

from typing import Any

import kombu
import pytest

from worker import streams


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lease_s": 1}, "lease_s must be 2 to 600 seconds, not 1"),
        ({"lease_s": 601}, "lease_s must be 2 to 600 seconds, not 601"),
        ({"lease_s": "15"}, "lease_s must be 2 to 600 seconds, not '15'"),
        ({"lease_s": float("nan")}, "lease_s must be 2 to 600 seconds, not nan"),
        ({"max_attempts": 0}, "max_attempts must be 1 to 100 attempts, not 0"),
        ({"max_attempts": True}, "max_attempts must be 1 to 100 attempts, not True"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    connection = kombu.Connection(streams.broker_url("redis://127.0.0.1:1"), transport_options=options)
    with pytest.raises(ValueError, match=message):
        _ = connection.transport


@pytest.mark.parametrize("lease_s", [2, 3, 15, 60, 600])
def test_timings_leave_room_for_failures(lease_s: float) -> None:
    options = streams.Options(lease_s=lease_s)
    assert options.renew_s * 3 <= lease_s + 1e-9
    assert options.sweep_s * 2 < options.max_sweep_gap_s
    assert options.renew_s + options.max_sweep_gap_s < lease_s  # see max_sweep_gap_s


def test_prefixes_add_up() -> None:
    options = streams.Options.from_transport_options({"global_keyprefix": "app:", "queue_prefix": "jobs:"})
    keys = options.keys("fast")
    assert keys.readable == tuple(f"app:jobs:{{fast}}:{name}" for name in ("front", "high", "main", "low"))
    assert (keys.dead, keys.guard) == ("app:jobs:{fast}:dead", "app:jobs:{fast}:guard")


@pytest.mark.parametrize(
    ("redis_url", "expected"),
    [
        ("redis://:secret@host:1/2", "redis-streams://:secret@host:1/2"),
        ("rediss://host?ssl_cert_reqs=none", "rediss-streams://host?ssl_cert_reqs=none"),
    ],
)
def test_broker_url(redis_url: str, expected: str) -> None:
    assert streams.broker_url(redis_url) == expected


@pytest.mark.parametrize("url", ["amqp://host", "host", "unix:///socket"])
def test_broker_url_refuses_other_schemes(url: str) -> None:
    with pytest.raises(ValueError, match="must start with redis://"):
        streams.broker_url(url)


def test_tls_uses_verified_connections() -> None:
    connection = kombu.Connection(streams.broker_url("rediss://127.0.0.1:1"))
    channel_class = connection.transport.Channel
    assert channel_class.connection_class.__name__ == "SSLConnection"
