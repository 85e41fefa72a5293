"""What kombu promises of any transport, without Celery."""

from __future__ import annotations

import time
from queue import Empty
from typing import TYPE_CHECKING, Any

import kombu
import pytest
from kombu.pools import reset as reset_pools

from tests.streams.sample_app import LEASE_S
from tests.support.waiting import wait_until
from worker import streams
from worker.streams.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from tests.support.redis_server import RedisServer

KEYS = streams.QueueKeys("letters")


@pytest.fixture(params=["", "tenant:"], ids=["plain", "prefixed"])
def connection(
    request: pytest.FixtureRequest, server: RedisServer, client: redis.Redis
) -> Iterator[kombu.Connection]:
    options = {"lease_s": LEASE_S, "global_keyprefix": request.param}
    with kombu.Connection(streams.broker_url(server.url), transport_options=options) as made:
        yield made
    reset_pools()


def prefix_of(connection: kombu.Connection) -> str:
    return str(connection.transport_options["global_keyprefix"]) + "q:"


def numbers(connection: kombu.Connection, client: redis.Redis) -> tuple[int, int]:
    found = streams.stats(client, "letters", prefix_of(connection))
    return found.waiting, found.in_flight


def test_put_and_get(connection: kombu.Connection, client: redis.Redis) -> None:
    with connection.SimpleQueue("letters") as queue:
        queue.put({"text": "ünïcode"}, headers={"id": "1"})
        assert numbers(connection, client) == (1, 0)
        assert queue.qsize() == 1
        message = queue.get(timeout=5)
        assert message.payload == {"text": "ünïcode"}
        assert message.headers["attempt"] == 1
        assert message.headers["lease_id"] == message.delivery_tag
        assert not message.delivery_info["redelivered"]
        message.ack()
        with pytest.raises(Empty):
            queue.get(timeout=0.1)
    assert numbers(connection, client) == (0, 0)
    assert {key.removeprefix(prefix_of(connection)) for key in client.keys("*q:*")} == {
        f"{{letters}}:{name}" for name in ("front", "high", "main", "low", "guard")
    }


def test_reject_drops_and_requeue_counts(connection: kombu.Connection, client: redis.Redis) -> None:
    with connection.SimpleQueue("letters") as queue:
        queue.put("drop")
        queue.put("again")
        queue.get(timeout=5).reject()
        queue.get(timeout=5).requeue()
        again = queue.get(timeout=5)
        assert (again.payload, again.headers["attempt"]) == ("again", 2)
        assert again.delivery_info["redelivered"]
        again.ack()
    assert numbers(connection, client) == (0, 0)


def test_closing_gives_back_what_was_not_answered(connection: kombu.Connection, client: redis.Redis) -> None:
    with connection.channel() as channel, connection.SimpleQueue("letters") as queue:
        queue.put("unanswered")
        assert channel.basic_get("letters") is not None
        assert numbers(connection, client) == (0, 1)
    assert numbers(connection, client) == (1, 0)


def test_no_ack_consumers_leave_no_lease(connection: kombu.Connection, client: redis.Redis) -> None:
    with connection.SimpleQueue("letters", no_ack=True) as queue:
        queue.put("one")
        queue.put("two")
        assert queue.get(timeout=5).payload == "one"
        assert queue.get(block=False).payload == "two"
        wait_until(lambda: numbers(connection, client) == (0, 0), 5, "nothing to be leased")


def test_basic_get(connection: kombu.Connection, client: redis.Redis) -> None:
    with connection.channel() as channel, connection.SimpleQueue("letters") as queue:
        assert channel.basic_get("letters") is None
        queue.put("one")
        queue.put("two")
        channel.basic_get("letters").ack()
        assert channel.basic_get("letters", no_ack=True).payload == "two"
        assert numbers(connection, client) == (0, 0)


def test_prefetch_bounds_what_a_consumer_is_given(connection: kombu.Connection, client: redis.Redis) -> None:
    got: list[Any] = []
    with connection.channel() as channel, connection.SimpleQueue("letters") as queue:
        for number in range(3):
            queue.put(number)
        with kombu.Consumer(channel, [kombu.Queue("letters")], on_message=got.append, prefetch_count=2):
            _drain(connection, 1.5)
            assert [message.payload for message in got] == [0, 1]
            got[0].ack()
            _drain(connection, 0.5)
            assert [message.payload for message in got] == [0, 1, 2]


def test_queues_are_read_in_turn(connection: kombu.Connection) -> None:
    got: list[str] = []

    def receive(message: kombu.Message) -> None:
        got.append(message.payload)
        message.ack()

    with connection.channel() as channel:
        producer = kombu.Producer(channel)
        for number in range(3):
            for name in "ab":
                producer.publish(f"{name}{number}", routing_key=name, declare=[kombu.Queue(name)])
        with kombu.Consumer(channel, [kombu.Queue("a"), kombu.Queue("b")], on_message=receive):
            wait_until(lambda: _drain(connection, 0.1) or len(got) == 6, 10, "six messages")
    assert sorted(got[:2]) == ["a0", "b0"]
    assert [name for name in got if name[0] == "a"] == ["a0", "a1", "a2"]


def test_purge_declare_and_delete(connection: kombu.Connection, client: redis.Redis) -> None:
    with connection.channel() as channel, connection.SimpleQueue("letters") as queue:
        for number in range(3):
            queue.put(number)
        assert channel.queue_declare("letters", passive=True).message_count == 3
        assert channel.queue_purge("letters") == 3
        assert channel.queue_declare("letters", passive=True).message_count == 0
        channel.queue_delete("letters")
        assert client.keys("*{letters}*") == []
        with pytest.raises(connection.channel_errors):
            channel.queue_declare("letters", passive=True)


def test_priorities_choose_the_level(connection: kombu.Connection, client: redis.Redis) -> None:
    with connection.channel() as channel, connection.SimpleQueue("letters") as queue:
        for priority in (None, *range(10)):
            queue.put("x", priority=priority)
        by_level = streams.stats(client, "letters", prefix_of(connection)).by_level
        assert by_level == {"front": 0, "high": 3, "normal": 5, "low": 3}
        assert channel.queue_purge("letters") == 11
        channel.queue_delete("letters")
        assert client.keys("*{letters}*") == []


@pytest.mark.parametrize("priority", [9, 5, 1])
def test_any_level_ends_a_blocking_read(
    connection: kombu.Connection, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, priority: int
) -> None:
    monkeypatch.setattr(Transport, "brpop_timeout", 60)
    got: list[Any] = []
    with (
        connection.channel() as channel,
        kombu.Consumer(channel, [kombu.Queue("letters")], on_message=got.append, prefetch_count=1),
    ):
        wait_until(lambda: _drain(connection, 0.1) or _is_blocked(client), 5, "the read to block")
        with connection.clone() as other, other.channel() as publishing:
            kombu.Producer(publishing).publish("x", routing_key="letters", priority=priority)
        wait_until(lambda: _drain(connection, 0.1) or got, 5, "the message")
        channel.brpop_timeout = 0.1  # closing waits for the read in flight
        got[0].ack()


def test_a_batch_is_published(connection: kombu.Connection, client: redis.Redis) -> None:
    with connection.channel() as channel:
        kombu.Queue("letters", channel=channel).declare()
        batch = channel.create_publish_batch(10)
        for number in range(3):
            message = channel.prepare_message(str(number), content_encoding="utf-8", properties={})
            batch.publish(message, exchange="", routing_key="letters")
        batch.flush()
        batch.close()
    assert numbers(connection, client) == (3, 0)


def test_one_channel_does_not_mix_streams_and_lists(connection: kombu.Connection) -> None:
    with connection.channel() as channel:
        channel.basic_consume("letters", False, print, "one")
        with pytest.raises(ValueError, match="streams and lists"):
            channel.basic_consume("reply.celery.pidbox", False, print, "two")


def test_a_lease_outlives_a_slow_consumer(connection: kombu.Connection, client: redis.Redis) -> None:
    with connection.SimpleQueue("letters") as queue:
        queue.put("slow")
        message = queue.get(timeout=5)
        taken_at = time.monotonic()
        options = streams.Options(lease_s=LEASE_S, prefix=prefix_of(connection))
        wait_until(
            lambda: (
                streams.sweep(client, ["letters"], options) or time.monotonic() > taken_at + 1.5 * LEASE_S
            ),
            2 * LEASE_S,
            "time to pass",
        )
        assert streams.lease_held(client, message.delivery_tag)
        message.ack()


def _is_blocked(client: redis.Redis) -> bool:
    return bool(client.info("clients")["blocked_clients"])


def _drain(connection: kombu.Connection, seconds: float) -> bool:
    """Handle events for so long; False, for use in conditions."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            connection.drain_events(timeout=left)
        except (TimeoutError, Empty):
            break
    return False
