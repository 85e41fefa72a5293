"""Deliveries over real HTTP, from a real Redis: every kind of receiver, killed sweepers, two at once."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from standardwebhooks import Webhook as Reference

from ops.stack import free_port
from tests.delivery import ended_jobs
from tests.delivery.dying_sweeper import DYING_TIMEOUT_S
from tests.delivery.receivers import Receiver, answer, drip, garbage, hang, reset
from tests.support.waiting import wait_until
from worker.delivery.posting import GuardedPost
from worker.delivery.webhook import AT_ONCE, Deliverer, Webhook
from worker.delivery.webhook_rules import (
    MOST_TRIES,
    DeliveryState,
    Event,
    Outcome,
    webhook_body,
    webhook_id,
)
from worker.delivery.webhook_store import Delivery, WebhookStore
from worker.jobs.keys import WEBHOOKS_DUE
from worker.sources.addresses import PUBLIC_ONLY, AddressPolicy

if TYPE_CHECKING:
    import redis

    from tests.delivery.receivers import Answer
    from tests.support.redis_server import RedisServer

KEY = b"k" * 24
TIMEOUT_S = 0.5
POST = GuardedPost(AddressPolicy(allow_private=True))
NOW = time.time()


@dataclass
class Bench:
    client: redis.Redis
    store: WebhookStore
    deliverer: Deliverer

    def ended(self, url: str, task_id: str = "t", event: Event = Event.COMPLETED, *, at: float = NOW) -> None:
        ended_jobs.ended(self.client, task_id, url, event, at)

    def delivery(self, task_id: str = "t") -> Delivery:
        [delivery] = self.store.read(task_id)
        return delivery

    def to(self, answers: list[Answer]) -> Delivery:
        """One try at a receiver that answers so."""
        with Receiver(answers) as server:
            self.ended(server.url)
            assert self.deliverer.deliver_due(NOW) == 1
        return self.delivery()


@pytest.fixture
def bench(client: redis.Redis) -> Bench:
    store = WebhookStore(client)
    return Bench(client, store, Deliverer(store, [KEY], POST, timeout_s=TIMEOUT_S, chance=lambda: 0.0))


def test_a_completed_job_is_told_once_and_signed(bench: Bench) -> None:
    now = time.time()  # a receiver takes no message of five minutes ago, when the module may have been read
    with Receiver([answer(200, b"thanks")]) as server:
        bench.ended(f"{server.url}/in?key=1", at=now)
        assert bench.deliverer.deliver_due(now) == 1
        assert bench.deliverer.deliver_due(now + 1e6) == 0
    [got] = server.received
    told = Reference("whsec_" + base64.b64encode(KEY).decode()).verify(got.body, got.headers)
    assert told["type"] == "job.completed"
    assert told["data"] == {"task_id": "t", "status": "completed"}
    assert got.headers["webhook-id"] == webhook_id(webhook_body("t", Event.COMPLETED, now))
    assert (got.headers["content-type"], got.path) == ("application/json", "/in?key=1")
    delivery = bench.delivery()
    assert (delivery.state, delivery.tries, delivery.next_at) == (DeliveryState.DELIVERED, 1, None)
    assert [(one.status, one.error) for one in delivery.log] == [(200, "")]


def test_a_failed_job_is_told_too(bench: Bench) -> None:
    with Receiver([answer(200)]) as server:
        bench.ended(server.url, event=Event.FAILED)
        bench.deliverer.deliver_due(NOW)
    assert json.loads(server.received[0].body)["data"] == {"task_id": "t", "status": "failed"}


@pytest.mark.parametrize(
    ("answers", "status", "error"),
    [
        ([answer(500)], 500, ""),
        ([answer(302, Location="http://127.0.0.1:9")], 302, ""),
        ([answer(408)], 408, ""),
        ([hang], None, "timeout"),
        ([drip], None, "timeout"),
        ([reset], None, "disconnected"),
        ([garbage], None, "no_http_answer"),
    ],
)
def test_what_may_pass_is_tried_again_after_five_seconds(
    bench: Bench, answers: list[Answer], status: int | None, error: str
) -> None:
    delivery = bench.to(answers)
    assert (delivery.state, delivery.tries) == (DeliveryState.PENDING, 1)
    [logged] = delivery.log
    assert (logged.status, logged.error) == (status, error)
    assert delivery.next_at == pytest.approx(logged.at + 5, abs=0.01)
    assert logged.at == pytest.approx(NOW + logged.ms / 1000, abs=0.01)


@pytest.mark.parametrize("status", [400, 404, 410])
def test_a_refusal_is_not_asked_again(bench: Bench, status: int) -> None:
    delivery = bench.to([answer(status)])
    assert (delivery.state, delivery.next_at, delivery.log[0].status) == (DeliveryState.FAILED, None, status)
    assert bench.client.zcard(WEBHOOKS_DUE) == 0


def test_retry_after_is_heeded(bench: Bench) -> None:
    delivery = bench.to([answer(429, Retry_After="77")])
    assert delivery.next_at == pytest.approx(delivery.log[0].at + 77, abs=0.01)


def test_an_address_that_is_not_allowed_ends_it(bench: Bench) -> None:
    guarded = Deliverer(bench.store, [KEY], GuardedPost(PUBLIC_ONLY), timeout_s=TIMEOUT_S)
    with Receiver([answer(200)]) as server:
        bench.ended(server.url)
        guarded.deliver_due(NOW)
    assert server.received == []
    assert bench.delivery().state is DeliveryState.FAILED
    assert bench.delivery().log[0].error == "address_forbidden"


def test_a_receiver_that_recovers_gets_the_same_webhook_again(bench: Bench) -> None:
    with Receiver([answer(500), reset, answer(200)]) as server:
        bench.ended(server.url)
        now = NOW
        while bench.delivery().state is DeliveryState.PENDING:
            assert bench.deliverer.deliver_due(now) == 1
            now = bench.delivery().next_at or now
    assert len({got.body for got in server.received}) == 1
    assert len({got.headers["webhook-id"] for got in server.received}) == 1
    stamps = [int(got.headers["webhook-timestamp"]) - int(NOW) for got in server.received]
    assert stamps == [0, pytest.approx(5, abs=2), pytest.approx(35, abs=3)]
    assert [one.status for one in bench.delivery().log] == [500, None, 200]


def test_after_the_last_try_it_is_given_up(bench: Bench) -> None:
    bench.ended(f"http://127.0.0.1:{free_port()}")
    now = NOW
    for _ in range(MOST_TRIES):
        assert bench.delivery().state is DeliveryState.PENDING
        assert bench.deliverer.deliver_due(now) == 1
        now = bench.delivery().next_at or now
    assert bench.delivery().state is DeliveryState.FAILED
    assert len(bench.delivery().log) == 10
    assert now - NOW == pytest.approx(56_555, abs=20)  # all nine waits: 15 h 42 min


def test_one_that_hangs_holds_up_no_other(bench: Bench) -> None:
    timeout_s = 3.0  # a busy machine needs a while to have 32 under way
    deliverer = Deliverer(bench.store, [KEY], POST, timeout_s=timeout_s)
    with Receiver([hang]) as slow, Receiver([answer(200)]) as quick:
        for number in range(AT_ONCE - 1):
            bench.ended(slow.url, f"slow{number}")
        bench.ended(quick.url, "quick")
        started = time.monotonic()
        assert deliverer.deliver_due(NOW) == AT_ONCE
        took_s = time.monotonic() - started
    assert bench.delivery("quick").state is DeliveryState.DELIVERED
    assert {bench.delivery(f"slow{n}").log[0].error for n in range(AT_ONCE - 1)} == {"timeout"}
    assert took_s < timeout_s * AT_ONCE / 2  # not one after the other


def test_a_post_that_breaks_is_one_failed_try(bench: Bench) -> None:
    async def broken(webhook: Webhook) -> Outcome:
        raise ZeroDivisionError

    with Receiver([answer(200)]) as server:
        bench.ended(server.url)
        Deliverer(bench.store, [KEY], broken, timeout_s=TIMEOUT_S).deliver_due(NOW)
    assert bench.delivery().state is DeliveryState.PENDING
    assert bench.delivery().log[0].error == "internal"


def test_killed_between_sending_and_writing_it_is_sent_again(bench: Bench, redis_server: RedisServer) -> None:
    with Receiver([answer(200)]) as server:
        bench.ended(server.url)
        argv = [sys.executable, "-m", "tests.delivery.dying_sweeper", redis_server.url, str(NOW)]
        assert subprocess.run(argv, check=False, timeout=60).returncode == -9
        assert bench.delivery().state is DeliveryState.PENDING
        lease_s = Deliverer(bench.store, [KEY], POST, timeout_s=DYING_TIMEOUT_S).lease_s
        assert bench.deliverer.deliver_due(NOW + lease_s - 1) == 0
        assert bench.deliverer.deliver_due(NOW + lease_s) == 1
    first, second = server.received
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert (bench.delivery().state, bench.delivery().tries) == (DeliveryState.DELIVERED, 2)


def test_what_another_sweeper_is_sending_is_left_alone(bench: Bench) -> None:
    patient = Deliverer(bench.store, [KEY], POST, timeout_s=30)
    with Receiver([hang]) as server:
        bench.ended(server.url)
        first = threading.Thread(target=patient.deliver_due, args=(NOW,))
        first.start()
        wait_until(lambda: server.received, 10, "the first sweeper's request")
        assert bench.deliverer.deliver_due(NOW + 1) == 0
        server.released.set()
        first.join(30)
    assert len(server.received) == 1
    assert bench.delivery().state is DeliveryState.DELIVERED


def test_sweepers_in_a_crowd_send_each_webhook_once(bench: Bench, redis_server: RedisServer) -> None:
    barrier = threading.Barrier(3)

    def sweep() -> None:
        with redis_server.client() as own:
            deliverer = Deliverer(WebhookStore(own), [KEY], POST, timeout_s=TIMEOUT_S)
            barrier.wait(10)
            while deliverer.deliver_due(NOW):
                pass

    with Receiver([answer(200)]) as server:
        for number in range(3 * AT_ONCE):
            bench.ended(server.url, f"t{number}")
        crowd = [threading.Thread(target=sweep) for _ in range(3)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join(60)
    sent = Counter(got.headers["webhook-id"] for got in server.received)
    assert sent == {
        webhook_id(webhook_body(f"t{number}", Event.COMPLETED, NOW)): 1 for number in range(3 * AT_ONCE)
    }


def test_a_webhooks_repr_tells_no_url(bench: Bench) -> None:
    webhook = Webhook("https://hooks.test/?key=secret", {"webhook-id": "msg_1"}, b"")
    assert repr(webhook) == "Webhook('msg_1')"
