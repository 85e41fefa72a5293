"""Any order of what can befall jobs: two workers, deliveries, losses, ends, releases, expiry.

Hypothesis looks for an order that breaks the table of moves, the one commit, the fence or the indexes. The
server is real, and so are the deliveries: pending entries of a stream, as the transport makes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from worker.jobs import MOVES, Fence, JobRecord, JobState, JobStore, MoveOutcome, new_task_id
from worker.jobs.keys import ENDED_INDEX, RUNNING_INDEX, WAITING_INDEX

if TYPE_CHECKING:
    import redis

    from tests.support.redis_server import RedisServer

GROUP = "celery"
MAIN, FRONT = "q:{transcribe}:main", "q:{transcribe}:front"
EXPIRY_S = 1000
WORKERS = ("one", "two")
EXAMPLES, STEPS = 100, 40
GIVEN_UP = "worker_lost"
INDEX_OF = {
    JobState.WAITING: WAITING_INDEX,
    JobState.RUNNING: RUNNING_INDEX,
    JobState.COMPLETED: ENDED_INDEX,
    JobState.FAILED: ENDED_INDEX,
}


@dataclass
class Delivery:
    """One entry in a worker's hands. ``held``: neither acknowledged nor reclaimed."""

    task_id: str
    lease: str
    worker: str
    attempt: int
    held: bool = True


@dataclass
class Model:
    """What must be true of a job. ``owner``: the lease of the last attempt that claimed it."""

    state: JobState
    owner: str = ""
    fraction: float = 0.0
    result: str = ""
    size_bytes: int = 0
    gone: bool = False
    seen: list[JobState] = field(default_factory=list)


class Jobs(RuleBasedStateMachine):
    """The store beside a model of it that is too plain to be wrong."""

    client: redis.Redis
    deliveries = Bundle("deliveries")
    published = Bundle("published")

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        for stream in (MAIN, FRONT):
            self.client.xgroup_create(stream, GROUP, id="0", mkstream=True)
        self.store = JobStore(self.client, group=GROUP, expiry_s=EXPIRY_S)
        self.now = 1_000_000.0
        self.jobs: dict[str, Model] = {}
        self.held: dict[str, Delivery] = {}

    # What the gateway and the queue do.

    @rule(target=published, size_bytes=st.integers(0, 1000))
    def accept(self, size_bytes: int) -> str:
        task_id = new_task_id()
        self._tick()
        record = JobRecord(id=task_id, state=JobState.WAITING, created_at=self.now, size_bytes=size_bytes)
        assert self.store.accept(record, max_waiting=1000)
        assert self.store.accept(record, max_waiting=0), "accepting is safe to repeat"
        self.jobs[task_id] = Model(JobState.WAITING, size_bytes=size_bytes, seen=[JobState.WAITING])
        return task_id

    @rule(target=deliveries, task_id=published, worker=st.sampled_from(WORKERS))
    def deliver(self, task_id: str, worker: str) -> Delivery:
        """The first delivery of a job, or a duplicate: a repair may have published it again."""
        return self._delivered(task_id, MAIN, worker, 1)

    @rule(target=deliveries, lost=consumes(deliveries), worker=st.sampled_from(WORKERS))
    def lose(self, lost: Delivery, worker: str) -> object:
        """The lease expires and another worker has a new entry; the late owner goes on trying."""
        if not lost.held:
            return lost
        self._end(lost)
        return multiple(lost, self._delivered(lost.task_id, FRONT, worker, lost.attempt + 1))

    @rule(delivery=deliveries)
    def acknowledge(self, delivery: Delivery) -> None:
        self._end(delivery)

    # What an attempt does, be its lease held or lost.

    @rule(delivery=deliveries)
    def claim(self, delivery: Delivery) -> None:
        job = self.jobs[delivery.task_id]
        self._tick()
        outcome = self.store.claim(
            delivery.task_id, delivery.lease, attempt=delivery.attempt, worker=delivery.worker, now=self.now
        )
        assert outcome is self._expected_of_claim(job, delivery)
        if outcome is MoveOutcome.MOVED:
            self._moved(delivery.task_id, JobState.RUNNING)
            job.owner, job.fraction = delivery.lease, 0.0

    @rule(delivery=deliveries, fraction=st.sampled_from([0.25, 0.5, 1.0]))
    def report(self, delivery: Delivery, fraction: float) -> None:
        written = self.store.report(delivery.task_id, delivery.lease, {"fraction": fraction})
        assert written == self._owns(delivery)
        if written:
            self.jobs[delivery.task_id].fraction = fraction

    @rule(delivery=deliveries)
    def complete(self, delivery: Delivery) -> None:
        self._tick()
        name = f"result.{delivery.lease}.json"
        outcome = self.store.complete(delivery.task_id, delivery.lease, now=self.now, fields={"result": name})
        assert outcome is self._expected_of_end(delivery, JobState.COMPLETED)
        if outcome is MoveOutcome.MOVED:
            self._moved(delivery.task_id, JobState.COMPLETED)
            self.jobs[delivery.task_id].result = name

    @rule(delivery=deliveries)
    def fail(self, delivery: Delivery) -> None:
        outcome = self._fail(delivery.task_id, delivery.lease, Fence.HOLD)
        assert outcome is self._expected_of_end(delivery, JobState.FAILED)
        if outcome is MoveOutcome.MOVED:
            self._moved(delivery.task_id, JobState.FAILED)

    @rule(delivery=deliveries)
    def wait_again(self, delivery: Delivery) -> None:
        """An attempt that is to be repeated later; as the task does it, with the record that it reads."""
        record = self.store.get(delivery.task_id)
        if record is None or record.lease != delivery.lease:
            return
        outcome = self.store.wait_again(record, fence=Fence.HOLD)
        assert outcome is self._expected_of_end(delivery, JobState.WAITING)
        if outcome is MoveOutcome.MOVED:
            self._moved(delivery.task_id, JobState.WAITING)

    # What the sweeper does.

    @rule(task_id=published)
    def return_lost(self, task_id: str) -> None:
        record = self.store.get(task_id)
        if record is None:
            return
        orphaned = record.state is JobState.RUNNING and record.lease not in self.held
        outcome = self.store.wait_again(record, fence=Fence.LOST)
        assert (outcome is MoveOutcome.MOVED) == orphaned
        if orphaned:
            self._moved(task_id, JobState.WAITING)

    @rule(task_id=published)
    def bury(self, task_id: str) -> None:
        """The sweeper fails a job whose attempts all died, unless somebody owns it after all."""
        job = self.jobs[task_id]
        buried = self._fail(task_id, "", Fence.LOST) is MoveOutcome.MOVED
        assert buried == (not job.gone and not job.state.is_final and job.owner not in self.held)
        if buried:
            self._moved(task_id, JobState.FAILED)

    @rule(task_id=published, code=st.sampled_from([GIVEN_UP, "another"]))
    def revive(self, task_id: str, code: str) -> None:
        """An operator's retry of a dead letter: the job begins anew. No move, so ``seen`` does, too."""
        job = self.jobs[task_id]
        waits, failed = job.state is JobState.WAITING, job.state is JobState.FAILED and code == GIVEN_UP
        assert self.store.revive(task_id, code) == (not job.gone and (waits or failed))
        if not job.gone and failed:
            job.state, job.owner, job.seen = JobState.WAITING, "", [JobState.WAITING]

    # What ends a record.

    @rule(task_id=published)
    def release(self, task_id: str) -> None:
        job = self.jobs[task_id]
        record = self.store.release(task_id)
        assert (record is None) == job.gone
        job.gone = True

    @rule(task_id=published, waited_s=st.sampled_from([0, EXPIRY_S + 10_000]))
    def expire(self, task_id: str, waited_s: int) -> None:
        job = self.jobs[task_id]
        due = not job.gone and job.state.is_final and waited_s > 0
        assert (self.store.expire(task_id, self.now + waited_s) is not None) == due
        job.gone = job.gone or due

    @precondition(lambda self: self.jobs)
    @invariant()
    def records_are_as_they_must_be(self) -> None:
        for task_id, job in self.jobs.items():
            record = self.store.get(task_id)
            assert (record is None) == job.gone
            assert self.store.is_gone(task_id) == job.gone
            if record is not None:
                found = (record.state, record.lease, record.fraction, record.result)
                assert found == (job.state, job.owner, job.fraction, job.result)

    @invariant()
    def each_job_is_in_the_one_index_of_its_state(self) -> None:
        for index in set(INDEX_OF.values()):
            expected = {
                name for name, job in self.jobs.items() if not job.gone and INDEX_OF[job.state] == index
            }
            assert set(cast("list[str]", self.client.zrange(index, 0, -1))) == expected

    @invariant()
    def who_waits_waits_by_age(self) -> None:
        waiting = {
            name: job.size_bytes
            for name, job in self.jobs.items()
            if not job.gone and job.state is JobState.WAITING
        }
        assert self.client.zrange(WAITING_INDEX, 0, -1) == list(waiting)
        assert self.store.load().waiting_bytes == sum(waiting.values())

    @invariant()
    def states_move_by_the_table_and_end_once(self) -> None:
        for job in self.jobs.values():
            steps = list(zip(job.seen, job.seen[1:], strict=False))
            assert all(after in MOVES[before] for before, after in steps)
            assert sum(state.is_final for state in job.seen) <= 1

    def _tick(self) -> None:
        self.now += 1.0

    def _delivered(self, task_id: str, stream: str, worker: str, attempt: int) -> Delivery:
        entry_id = self.client.xadd(stream, {"m": task_id})
        self.client.xreadgroup(GROUP, worker, {stream: ">"})
        delivery = Delivery(task_id, f"{entry_id}@{stream}", worker, attempt)
        self.held[delivery.lease] = delivery
        return delivery

    def _end(self, delivery: Delivery) -> None:
        entry_id, _, stream = delivery.lease.partition("@")
        assert self.client.xack(stream, GROUP, entry_id) == int(delivery.held)
        self.client.xdel(stream, entry_id)
        delivery.held = False
        self.held.pop(delivery.lease, None)

    def _moved(self, task_id: str, state: JobState) -> None:
        self.jobs[task_id].state = state
        self.jobs[task_id].seen.append(state)

    def _fail(self, task_id: str, lease: str, fence: Fence) -> MoveOutcome:
        self._tick()
        return self.store.fail(
            task_id, code=GIVEN_UP, message="x", step="", now=self.now, lease=lease, fence=fence
        )

    def _owns(self, delivery: Delivery) -> bool:
        job = self.jobs[delivery.task_id]
        current = not job.gone and job.state is JobState.RUNNING
        return current and job.owner == delivery.lease and delivery.held

    def _expected_of_claim(self, job: Model, delivery: Delivery) -> MoveOutcome:
        if job.gone:
            return MoveOutcome.GONE
        if job.state.is_final:
            return MoveOutcome.ENDED
        if not delivery.held:
            return MoveOutcome.LOST
        others = job.state is JobState.RUNNING and job.owner != delivery.lease and job.owner in self.held
        return MoveOutcome.DUPLICATE if others else MoveOutcome.MOVED

    def _expected_of_end(self, delivery: Delivery, target: JobState) -> MoveOutcome:
        job = self.jobs[delivery.task_id]
        if job.gone:
            return MoveOutcome.GONE
        if job.state.is_final:
            return MoveOutcome.ENDED
        if target not in MOVES[job.state]:
            return MoveOutcome.ILLEGAL
        owns = job.owner == delivery.lease and delivery.held
        return MoveOutcome.MOVED if owns else MoveOutcome.LOST


def test_no_order_of_events_breaks_a_job(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        run_state_machine_as_test(
            type("JobsOnServer", (Jobs,), {"client": client}),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
