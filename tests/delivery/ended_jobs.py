"""Jobs that end, by the moves that the service makes: what leaves a webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.delivery.webhook_rules import Event
from worker.jobs import Fence, JobRecord, JobState, JobStore, MoveOutcome
from worker.streams import GROUP

if TYPE_CHECKING:
    import redis

EXPIRY_S = 1000


def store_on(client: redis.Redis) -> JobStore:
    return JobStore(client, group=GROUP, expiry_s=EXPIRY_S)


def accept(client: redis.Redis, task_id: str, url: str, at: float) -> None:
    """A job that waits, and has a result all the same: its delivery was attempted in vain."""
    record = JobRecord(
        id=task_id, state=JobState.WAITING, created_at=at, webhook_url=url, result="result.1-0.json"
    )
    assert store_on(client).accept(record, max_waiting=10_000)


def end(client: redis.Redis, task_id: str, event: Event, at: float) -> MoveOutcome:
    store = store_on(client)
    if event is Event.COMPLETED:
        return store.complete_kept(task_id, now=at, fields={})
    return store.fail(task_id, code="worker_lost", message="x", step="", now=at, fence=Fence.LOST)


def ended(client: redis.Redis, task_id: str, url: str, event: Event, at: float) -> None:
    """A job that has ended, and its pending delivery."""
    accept(client, task_id, url, at)
    assert end(client, task_id, event, at) is MoveOutcome.MOVED
