"""Job records against a real server: every legal move, and everything that must not happen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from worker.jobs import (
    MOVES,
    Fence,
    JobRecord,
    JobState,
    JobStore,
    MoveOutcome,
    OwnerBooks,
    OwnerLimits,
    Priority,
    Verdict,
    new_task_id,
)
from worker.jobs.keys import ENDED_INDEX, RUNNING_INDEX, WAITING_INDEX, job_key, tombstone_key
from worker.jobs.store import Counts

if TYPE_CHECKING:
    import redis

GROUP = "celery"
STREAM = "q:{transcribe}:main"
EXPIRY_S = 100
NOTHING = Counts(dict.fromkeys(Priority, 0), 0, None)


@pytest.fixture
def store(client: redis.Redis) -> JobStore:
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    return JobStore(client, group=GROUP, expiry_s=EXPIRY_S)


def accepted(store: JobStore, **fields: object) -> str:
    task_id = new_task_id()
    store.accept(
        JobRecord.model_validate(
            {"id": task_id, "state": JobState.WAITING, "created_at": time.time(), **fields}
        ),
        max_waiting=10,
    )
    return task_id


def deliver(client: redis.Redis, consumer: str = "one") -> str:
    """A delivery in the pending list, as the transport makes it; its lease."""
    entry_id = client.xadd(STREAM, {"m": "{}"})
    client.xreadgroup(GROUP, consumer, {STREAM: ">"})
    return f"{entry_id}@{STREAM}"


def lose(client: redis.Redis, lease: str) -> None:
    client.xack(STREAM, GROUP, lease.partition("@")[0])


def claim(store: JobStore, task_id: str, lease: str, attempt: int = 1) -> MoveOutcome:
    return store.claim(task_id, lease, attempt=attempt, worker="w@host", now=time.time())


def complete(store: JobStore, task_id: str, lease: str) -> MoveOutcome:
    return store.complete(task_id, lease, now=time.time(), fields={"result": f"result.{lease}.json"})


def test_a_job_goes_from_waiting_over_running_to_completed(store: JobStore, client: redis.Redis) -> None:
    task_id = accepted(store, file_name="a.wav", size_bytes=7)
    assert store.counts().waiting == 1
    assert store.position(task_id) == 1
    lease = deliver(client)

    assert claim(store, task_id, lease) is MoveOutcome.MOVED
    assert store.report(task_id, lease, {"step": "transcription", "fraction": 0.5})
    running = store.get(task_id)
    assert running is not None
    assert (running.state, running.step, running.fraction, running.lease) == (
        JobState.RUNNING,
        "transcription",
        0.5,
        lease,
    )
    assert complete(store, task_id, lease) is MoveOutcome.MOVED

    record = store.get(task_id)
    assert record is not None
    assert (record.state, record.size_bytes, record.file_name) == (JobState.COMPLETED, 7, "a.wav")
    assert record.expires_at == pytest.approx(time.time() + EXPIRY_S, abs=5)
    assert client.zscore(ENDED_INDEX, task_id) == pytest.approx(record.expires_at)
    assert store.counts() == NOTHING


def test_accepting_twice_is_accepting_once(store: JobStore, client: redis.Redis) -> None:
    record = JobRecord(id=new_task_id(), state=JobState.WAITING, created_at=1.0)
    assert store.accept(record, max_waiting=1)
    assert store.accept(record, max_waiting=1)
    assert client.zcard(WAITING_INDEX) == 1


def test_a_full_queue_accepts_no_more(store: JobStore, client: redis.Redis) -> None:
    accepted(store)
    late = JobRecord(id=new_task_id(), state=JobState.WAITING, created_at=1.0)
    assert not store.accept(late, max_waiting=1)
    assert not client.exists(job_key(late.id))


def test_an_owner_may_have_so_much_and_no_more(store: JobStore, client: redis.Redis) -> None:
    def ask(owner: str, size_bytes: int) -> Verdict:
        record = JobRecord(
            id=new_task_id(), state=JobState.WAITING, owner=owner, created_at=1.0, size_bytes=size_bytes
        )
        limits = OwnerLimits(waiting=2, stored_bytes=100)
        return store.accept(record, max_waiting=10, limits=limits).verdict

    assert ask("ann", 101) is Verdict.OWNER_STORES
    assert [ask("ann", 100), ask("ann", 1), ask("ann", 0)] == ["accepted", "owner_stores", "accepted"]
    assert [ask("ann", 0), ask("bob", 100)] == ["owner_waits", "accepted"]
    assert client.zcard(WAITING_INDEX) == 3


def test_what_a_running_job_holds_is_what_its_attempt_reports(store: JobStore, client: redis.Redis) -> None:
    """The size of a recording that a worker fetches is known only then."""
    task_id = accepted(store, owner="ann")
    lease = deliver(client)
    claim(store, task_id, lease)
    books = OwnerBooks(client)
    for stored_bytes in (500, 70):
        assert store.report(task_id, lease, {"stored_bytes": stored_bytes})
        assert books.holdings("ann").stored_bytes == stored_bytes
    store.release(task_id, "ann")
    assert books.holdings("ann").stored_bytes == 0


def test_a_second_delivery_of_a_job_being_worked_on_is_a_duplicate(
    store: JobStore, client: redis.Redis
) -> None:
    task_id = accepted(store)
    first, second = deliver(client), deliver(client, "two")
    assert claim(store, task_id, first) is MoveOutcome.MOVED
    assert claim(store, task_id, second) is MoveOutcome.DUPLICATE
    lose(client, first)
    assert claim(store, task_id, second, attempt=2) is MoveOutcome.MOVED


def test_an_attempt_that_lost_its_lease_changes_nothing(store: JobStore, client: redis.Redis) -> None:
    task_id = accepted(store)
    late = deliver(client)
    claim(store, task_id, late)
    lose(client, late)

    assert not store.report(task_id, late, {"fraction": 0.9})
    assert complete(store, task_id, late) is MoveOutcome.LOST
    assert claim(store, task_id, late) is MoveOutcome.LOST
    assert (
        store.fail(task_id, code="x", message="x", step="", now=1.0, lease=late, fence=Fence.HOLD)
        is MoveOutcome.LOST
    )
    record = store.get(task_id)
    assert record is not None
    assert (record.state, record.fraction) == (JobState.RUNNING, 0.0)


def test_an_attempt_whose_job_was_taken_over_cannot_commit_though_its_entry_is_pending(
    store: JobStore, client: redis.Redis
) -> None:
    task_id = accepted(store)
    first = deliver(client)
    claim(store, task_id, first)
    lose(client, first)
    second = deliver(client, "two")
    assert claim(store, task_id, second, attempt=2) is MoveOutcome.MOVED
    assert complete(store, task_id, first) is MoveOutcome.LOST
    assert complete(store, task_id, second) is MoveOutcome.MOVED


def test_a_job_has_one_end(store: JobStore, client: redis.Redis) -> None:
    task_id = accepted(store)
    lease = deliver(client)
    claim(store, task_id, lease)
    complete(store, task_id, lease)
    again = deliver(client)
    assert claim(store, task_id, again) is MoveOutcome.ENDED
    assert complete(store, task_id, lease) is MoveOutcome.ENDED
    failed = store.fail(task_id, code="x", message="x", step="", now=1.0, fence=Fence.NONE)
    assert failed is MoveOutcome.ENDED


def test_a_job_whose_lease_is_held_is_not_returned(store: JobStore, client: redis.Redis) -> None:
    task_id = accepted(store)
    lease = deliver(client)
    claim(store, task_id, lease)
    record = store.get(task_id)
    assert record is not None
    assert store.wait_again(record, fence=Fence.LOST) is MoveOutcome.LOST
    lose(client, lease)
    assert store.wait_again(record, fence=Fence.LOST) is MoveOutcome.MOVED
    assert store.position(task_id) == 1
    assert client.zcard(RUNNING_INDEX) == 0


def test_a_released_job_leaves_a_tombstone_without_its_id(store: JobStore, client: redis.Redis) -> None:
    task_id = accepted(store)
    lease = deliver(client)
    claim(store, task_id, lease)
    released = store.release(task_id)
    assert released is not None
    assert released.lease == lease
    assert store.is_gone(task_id)
    assert client.ttl(tombstone_key(task_id)) == pytest.approx(EXPIRY_S, abs=2)
    assert store.get(task_id) is None
    assert claim(store, task_id, lease) is MoveOutcome.GONE
    assert not any(task_id in key for key in client.keys("*"))
    assert store.counts() == NOTHING
    assert store.release(task_id) is None


def test_the_more_urgent_come_first_and_each_priority_is_counted(
    store: JobStore, client: redis.Redis
) -> None:
    low, normal, high = (
        accepted(store, created_at=at, priority=priority)
        for at, priority in ((10.0, "low"), (20.0, "normal"), (30.0, "high"))
    )
    assert [store.position(task_id) for task_id in (high, normal, low)] == [1, 2, 3]
    assert store.counts() == Counts(dict.fromkeys(Priority, 1), 0, 10.0)
    assert store.waiting_before(25.0) == [normal, low]
    lease = deliver(client)
    claim(store, low, lease)
    lose(client, lease)
    record = store.get(low)
    assert record is not None
    store.wait_again(record, fence=Fence.LOST)
    assert store.position(low) == 3


def waiting_bytes(store: JobStore) -> int:
    return store.load().waiting_bytes


def test_the_waiting_bytes_follow_every_move(store: JobStore, client: redis.Redis) -> None:
    task_id, other = accepted(store, size_bytes=100), accepted(store, size_bytes=7)
    assert waiting_bytes(store) == 107
    lease = deliver(client)
    claim(store, task_id, lease)
    assert waiting_bytes(store) == 7
    lose(client, lease)
    record = store.get(task_id)
    assert record is not None
    store.wait_again(record, fence=Fence.LOST)
    assert waiting_bytes(store) == 107
    store.release(other)
    assert waiting_bytes(store) == 100
    store.fail(task_id, code="worker_lost", message="x", step="", now=1.0, fence=Fence.NONE)
    assert waiting_bytes(store) == 0
    assert store.revive(task_id, "worker_lost")
    assert waiting_bytes(store) == 100


def test_speed_is_that_of_the_latest_jobs(store: JobStore) -> None:
    for _ in range(100):
        store.note_speed(1000, 1)
    for _ in range(100):
        store.note_speed(10, 1)
    load = store.load()
    assert load.done_bytes / load.done_seconds == pytest.approx(10, rel=0.05)


def test_only_a_job_that_was_given_up_can_be_revived(store: JobStore, client: redis.Redis) -> None:
    task_id, other = accepted(store), accepted(store)
    store.fail(task_id, code="worker_lost", message="x", step="", now=1.0, fence=Fence.NONE)
    store.fail(other, code="not_audio", message="x", step="", now=1.0, fence=Fence.NONE)
    assert store.revive(task_id, "worker_lost")
    assert store.revive(task_id, "worker_lost"), "not safe to repeat"
    assert not store.revive(other, "worker_lost")
    assert not store.revive(new_task_id(), "worker_lost")
    record = store.get(task_id)
    assert record is not None
    assert (record.state, record.error_code, record.expires_at) == (JobState.WAITING, "", None)
    assert store.expired_ids(2**40) == [other]
    assert store.position(task_id) == 1


def test_only_ended_jobs_expire_and_only_when_it_is_time(store: JobStore, client: redis.Redis) -> None:
    waiting, ended = accepted(store), accepted(store)
    lease = deliver(client)
    claim(store, ended, lease)
    complete(store, ended, lease)
    now = time.time()
    later = now + EXPIRY_S + 5

    assert store.expired_ids(now) == []
    assert store.expire(ended, now) is None
    assert store.expire(waiting, later) is None
    assert store.expired_ids(later) == [ended]
    assert store.expire(ended, later) is not None
    assert store.expire(ended, later) is None
    assert store.is_gone(ended)


def test_positions_follow_age_also_for_a_job_that_waits_again(store: JobStore, client: redis.Redis) -> None:
    old, young = accepted(store, created_at=10.0), accepted(store, created_at=20.0)
    lease = deliver(client)
    claim(store, old, lease)
    assert store.position(young) == 1
    lose(client, lease)
    record = store.get(old)
    assert record is not None
    store.wait_again(record, fence=Fence.LOST)
    assert (store.position(old), store.position(young)) == (1, 2)
    assert store.waiting_before(15.0) == [old]


@pytest.mark.parametrize("state", JobState)
def test_final_states_are_those_that_nothing_leaves(state: JobState) -> None:
    assert state.is_final == (state in {JobState.COMPLETED, JobState.FAILED})
    assert all(target in JobState for target in MOVES[state])
