"""Pending deliveries on a real server."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from worker.delivery.keys import DUE, delivery_key
from worker.delivery.webhook_rules import DeliveryState, Event, Step, webhook_body
from worker.delivery.webhook_store import LOGGED_TRIES, Claim, Delivery, Try, WebhookStore, enqueue, forget
from worker.jobs import Fence, JobRecord, JobState, JobStore
from worker.jobs.keys import job_key
from worker.jobs.store import _MOVE_KEYS

if TYPE_CHECKING:
    import redis

NOW = 1_800_000_000.0
URL = "https://hooks.example/in?key=secret"
LIFE_S = 200_000
AGAIN = Step(DeliveryState.PENDING, 30)
KEY = delivery_key("t:job.completed")


@pytest.fixture
def store(client: redis.Redis) -> WebhookStore:
    return WebhookStore(client)


def ended(client: redis.Redis, task_id: str = "t", event: Event = Event.COMPLETED, at: float = NOW) -> None:
    """A job that has ended, and its pending delivery."""
    client.hset(job_key(task_id), "state", event.status)
    assert enqueue(client, task_id, event, URL, ended_at=at, life_s=LIFE_S)


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
    assert 0 < client.ttl(KEY) <= LIFE_S


def test_enqueueing_again_changes_nothing_whatever_has_happened(
    client: redis.Redis, store: WebhookStore
) -> None:
    ended(client)
    assert not enqueue(client, "t", Event.COMPLETED, "https://other", ended_at=NOW + 1, life_s=LIFE_S)
    claim = claimed(store)
    assert claim.url == URL
    assert not enqueue(client, "t", Event.COMPLETED, URL, ended_at=NOW, life_s=LIFE_S)
    assert store.settle(claim, tried(status=200), Step(DeliveryState.DELIVERED))
    assert not enqueue(client, "t", Event.COMPLETED, URL, ended_at=NOW, life_s=LIFE_S)
    assert store.claim_due(NOW + 1e6, lease_s=60, most=10) == []


@pytest.mark.parametrize("state", ["running", "failed", None])
def test_an_event_that_has_not_happened_is_not_enqueued(client: redis.Redis, state: str | None) -> None:
    if state:
        client.hset(job_key("t"), "state", state)
    assert not enqueue(client, "t", Event.COMPLETED, URL, ended_at=NOW, life_s=LIFE_S)
    assert client.keys("webhook*") == []


def test_it_is_part_of_the_jobs_commit_and_of_no_other(client: redis.Redis, store: WebhookStore) -> None:
    """The move's own script and the enqueueing in one transaction: both happen, or neither."""
    jobs = JobStore(client, group="celery", expiry_s=100)
    jobs.accept(JobRecord(id="t", state=JobState.WAITING, created_at=NOW), max_waiting=10)

    def commit(fence: Fence) -> list[object]:
        args = ["t", JobState.FAILED, "waiting,", fence, "no lease", "celery", NOW, "error_code", "x"]
        with client.pipeline(transaction=True) as pipe:
            jobs._move(keys=[job_key("t"), *_MOVE_KEYS], args=args, client=pipe)
            enqueue(pipe, "t", Event.FAILED, URL, ended_at=NOW, life_s=LIFE_S)
            return list(pipe.execute())

    assert commit(Fence.HOLD) == ["lost", 0]
    assert commit(Fence.NONE) == ["moved", 1]
    assert commit(Fence.NONE) == ["ended", 0]
    assert claimed(store).event is Event.FAILED


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
    client.expire(KEY, 10)
    assert store.settle(claimed(store), tried(NOW + 2), AGAIN)
    assert store.read("t") == [
        Delivery(Event.COMPLETED, DeliveryState.PENDING, 1, NOW + 32, (tried(NOW + 2),))
    ]
    assert client.ttl(KEY) > 10
    assert store.claim_due(NOW + 31, lease_s=60, most=10) == []
    assert claimed(store, NOW + 32).log == (tried(NOW + 2),)


@pytest.mark.parametrize("state", [DeliveryState.DELIVERED, DeliveryState.FAILED])
def test_what_has_ended_keeps_its_log_but_not_its_url(
    client: redis.Redis, store: WebhookStore, state: DeliveryState
) -> None:
    ended(client)
    store.settle(claimed(store), tried(), Step(state))
    assert client.zcard(DUE) == 0
    assert "secret" not in str(client.hgetall(KEY))
    assert store.read("t") == [Delivery(Event.COMPLETED, state, 1, None, (tried(),))]
    assert 0 < client.ttl(KEY) <= LIFE_S


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
    forget(client, "t")
    assert not store.settle(claim, tried(), AGAIN)
    assert client.keys("webhook*") == []
    assert store.read("t") == []


def test_a_delivery_that_expired_leaves_the_index(client: redis.Redis, store: WebhookStore) -> None:
    ended(client)
    client.delete(KEY)
    assert store.claim_due(NOW, lease_s=60, most=10) == []
    assert client.zcard(DUE) == 0


def test_both_events_of_a_job_are_kept_apart(client: redis.Redis, store: WebhookStore) -> None:
    """An operator may begin a job anew that was given up."""
    ended(client, event=Event.FAILED)
    store.settle(claimed(store), tried(status=200), Step(DeliveryState.DELIVERED))
    ended(client, event=Event.COMPLETED, at=NOW + 9)
    assert [one.state for one in store.read("t")] == [DeliveryState.PENDING, DeliveryState.DELIVERED]


def test_times_of_today_lose_no_milliseconds_as_scores(client: redis.Redis, store: WebhookStore) -> None:
    now = round(time.time(), 3)
    ended(client, at=now)
    claim = claimed(store, now)
    store.settle(claim, replace(tried(), at=now), Step(DeliveryState.PENDING, 5.125))
    assert store.read("t")[0].next_at == pytest.approx(now + 5.125, abs=1e-4)
