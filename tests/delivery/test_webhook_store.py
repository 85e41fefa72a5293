"""Pending deliveries on a real server."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.delivery import ended_jobs
from worker.delivery.webhook_rules import DeliveryState, Event, Step, webhook_body, webhook_id
from worker.delivery.webhook_store import LOGGED_TRIES, Claim, Delivery, Try, WebhookStore
from worker.jobs import Fence, MoveOutcome
from worker.jobs.keys import WEBHOOKS_DUE, webhook_key

if TYPE_CHECKING:
    import redis

NOW = 1_800_000_000.0
URL = "https://hooks.example/in?key=secret"
AGAIN = Step(DeliveryState.PENDING, 30)
KEY = webhook_key("t", "completed")


@pytest.fixture
def store(client: redis.Redis) -> WebhookStore:
    return WebhookStore(client)


def ended(client: redis.Redis, task_id: str = "t", event: Event = Event.COMPLETED, at: float = NOW) -> None:
    ended_jobs.ended(client, task_id, URL, event, at)


def claimed(store: WebhookStore, now: float = NOW) -> Claim:
    [claim] = store.claim_due(now, lease_s=60, most=10)
    return claim


def tried(at: float = NOW, status: int = 500) -> Try:
    return Try(at, status, "", 12)


def test_a_delivery_is_due_at_once_with_all_that_a_try_needs(
    client: redis.Redis, store: WebhookStore
) -> None:
    ended(client)
    body = webhook_body("t", Event.COMPLETED, NOW)
    assert claimed(store) == Claim("t", Event.COMPLETED, URL, body, 1, ())


@pytest.mark.parametrize("event", Event)
def test_a_move_that_is_repeated_announces_nothing_again(
    client: redis.Redis, store: WebhookStore, event: Event
) -> None:
    ended(client, event=event)
    assert store.settle(claimed(store), tried(status=200), Step(DeliveryState.DELIVERED))
    for other in Event:
        assert ended_jobs.end(client, "t", other, NOW + 1) is MoveOutcome.ENDED
    assert store.claim_due(NOW + 1e6, lease_s=60, most=10) == []
    assert [one.event for one in store.read("t")] == [event]


def test_a_move_that_is_refused_announces_nothing(client: redis.Redis) -> None:
    ended_jobs.accept(client, "t", URL, NOW)
    jobs = ended_jobs.store_on(client)
    refused = jobs.fail("t", code="x", message="", step="", now=NOW, lease="1-0@s", fence=Fence.HOLD)
    assert refused is MoveOutcome.LOST
    assert client.keys("webhook*") == []


def test_a_job_without_a_url_is_not_announced(client: redis.Redis) -> None:
    ended_jobs.ended(client, "t", "", Event.FAILED, NOW)
    assert client.keys("webhook*") == []


def test_what_is_not_due_is_not_claimed(client: redis.Redis, store: WebhookStore) -> None:
    ended(client)
    assert store.claim_due(NOW - 1, lease_s=60, most=10) == []


def test_the_longest_due_come_first_and_no_more_than_asked(client: redis.Redis, store: WebhookStore) -> None:
    for number in range(5):
        ended(client, f"t{number}", at=NOW - number)
    assert [claim.task_id for claim in store.claim_due(NOW, lease_s=60, most=2)] == ["t4", "t3"]


def test_a_claim_hides_the_delivery_until_its_lease_is_over(client: redis.Redis, store: WebhookStore) -> None:
    ended(client)
    assert claimed(store).tries == 1
    assert store.claim_due(NOW + 59, lease_s=60, most=10) == []
    assert claimed(store, NOW + 60).tries == 2


def test_a_sweeper_that_lost_its_claim_writes_nothing(client: redis.Redis, store: WebhookStore) -> None:
    ended(client)
    late = claimed(store)
    current = claimed(store, NOW + 60)
    assert not store.settle(late, tried(status=404), Step(DeliveryState.FAILED))
    assert store.read("t")[0].state is DeliveryState.PENDING
    assert store.settle(current, tried(status=200), Step(DeliveryState.DELIVERED))
    assert not store.settle(late, tried(), AGAIN)
    assert store.read("t") == [
        Delivery(Event.COMPLETED, DeliveryState.DELIVERED, 2, None, (tried(status=200),))
    ]


def test_a_failed_try_is_due_again_after_its_wait(client: redis.Redis, store: WebhookStore) -> None:
    ended(client)
    assert store.settle(claimed(store), tried(NOW + 2), AGAIN)
    assert store.read("t") == [
        Delivery(Event.COMPLETED, DeliveryState.PENDING, 1, NOW + 32, (tried(NOW + 2),))
    ]
    assert store.claim_due(NOW + 31, lease_s=60, most=10) == []
    assert claimed(store, NOW + 32).log == (tried(NOW + 2),)


@pytest.mark.parametrize("state", [DeliveryState.DELIVERED, DeliveryState.FAILED])
def test_what_has_ended_keeps_its_log_but_not_its_url(
    client: redis.Redis, store: WebhookStore, state: DeliveryState
) -> None:
    ended(client)
    store.settle(claimed(store), tried(), Step(state))
    assert client.zcard(WEBHOOKS_DUE) == 0
    assert "secret" not in str(client.hgetall(KEY))
    assert store.read("t") == [Delivery(Event.COMPLETED, state, 1, None, (tried(),))]


def test_the_log_keeps_the_last_tries(client: redis.Redis, store: WebhookStore) -> None:
    ended(client)
    for number in range(LOGGED_TRIES + 3):
        now = NOW + 100 * number
        store.settle(claimed(store, now), tried(now), AGAIN)
    log = store.read("t")[0].log
    assert [one.at for one in log] == [NOW + 100 * number for number in range(3, LOGGED_TRIES + 3)]


def test_a_forgotten_job_leaves_nothing_and_a_late_answer_brings_nothing_back(
    client: redis.Redis, store: WebhookStore
) -> None:
    ended(client)
    claim = claimed(store)
    assert ended_jobs.store_on(client).release("t") is not None
    assert not store.settle(claim, tried(), AGAIN)
    assert client.keys("webhook*") == []
    assert store.read("t") == []


def test_an_expired_job_is_announced_no_more(client: redis.Redis, store: WebhookStore) -> None:
    ended(client)
    assert ended_jobs.store_on(client).expire("t", NOW + ended_jobs.EXPIRY_S) is not None
    assert client.keys("webhook*") == []


def test_a_delivery_that_is_no_more_leaves_the_index(client: redis.Redis, store: WebhookStore) -> None:
    ended(client)
    client.delete(KEY)
    assert store.claim_due(NOW, lease_s=60, most=10) == []
    assert client.zcard(WEBHOOKS_DUE) == 0


def test_a_failure_that_an_operator_takes_back_is_forgotten_and_the_next_end_is_news(
    client: redis.Redis, store: WebhookStore
) -> None:
    ended(client, event=Event.FAILED)
    first = claimed(store)
    assert ended_jobs.store_on(client).revive("t", "worker_lost")
    assert (store.read("t"), client.zcard(WEBHOOKS_DUE)) == ([], 0)
    ended_jobs.end(client, "t", Event.FAILED, NOW + 9)
    again = claimed(store, NOW + 9)
    assert webhook_id(again.body) != webhook_id(first.body)


def test_times_of_today_lose_no_milliseconds_as_scores(client: redis.Redis, store: WebhookStore) -> None:
    now = round(time.time(), 3)
    ended(client, at=now)
    claim = claimed(store, now)
    store.settle(claim, replace(tried(), at=now), Step(DeliveryState.PENDING, 5.125))
    assert store.read("t")[0].next_at == pytest.approx(now + 5.125, abs=1e-4)
