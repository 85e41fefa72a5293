"""Any order of what can befall jobs: two workers, deliveries, losses, ends, releases, expiry.

Hypothesis looks for an order that breaks the table of moves, the one commit, the fence, the indexes, the
owners' books, or the keys by which a request is one job. The server is real, and so are the deliveries:
pending entries of a stream, as the transport makes them.
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

from worker.jobs import (
    MOVES,
    Fence,
    JobRecord,
    JobState,
    JobStore,
    MoveOutcome,
    Once,
    OwnerBooks,
    OwnerLimits,
    Verdict,
    new_task_id,
)
from worker.jobs.keys import ENDED_INDEX, RUNNING_INDEX, WAITING_INDEX, idempotency_key

if TYPE_CHECKING:
    import redis

    from tests.support.redis_server import RedisServer

GROUP = "celery"
MAIN, FRONT = "q:{transcribe}:main", "q:{transcribe}:front"
EXPIRY_S = 1000
WORKERS = ("one", "two")
OWNERS = ("ann", "bob")
LIMITS = OwnerLimits(waiting=3, stored_bytes=3000)
AUDIO_S = 1.25
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
    client: str = OWNERS[0]
    stored_bytes: int = 0
    key: str = ""
    fingerprint: str = ""
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
        self.audio_s = dict.fromkeys(OWNERS, 0.0)

    # What the gateway and the queue do.

    @rule(
        target=published,
        size_bytes=st.integers(0, 1000),
        client=st.sampled_from(OWNERS),
        key=st.sampled_from(["", "", "k"]),
        fingerprint=st.sampled_from(["f", "f", "g"]),
    )
    def accept(self, size_bytes: int, client: str, key: str, fingerprint: str) -> object:
        self._tick()
        record = JobRecord(
            id=new_task_id(),
            state=JobState.WAITING,
            owner=client,
            created_at=self.now,
            size_bytes=size_bytes,
        )
        once = Once(idempotency_key(client, key), fingerprint) if key else None
        expected, task_id = self._expected_of_accept(record, key, fingerprint)
        for _ in range(2):  # accepting is safe to repeat
            admission = self.store.accept(record, max_waiting=1000, limits=LIMITS, once=once)
            assert (admission.verdict, admission.task_id) == (expected, task_id)
        if task_id != record.id:
            return multiple()
        self.jobs[task_id] = Model(
            JobState.WAITING,
            size_bytes=size_bytes,
            client=client,
            stored_bytes=size_bytes,
            key=key,
            fingerprint=fingerprint,
            seen=[JobState.WAITING],
        )
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
        fields = {"fraction": fraction, "stored_bytes": int(100 * fraction)}
        written = self.store.report(delivery.task_id, delivery.lease, fields)
        assert written == self._owns(delivery)
        if written:
            job = self.jobs[delivery.task_id]
            job.fraction, job.stored_bytes = fraction, int(100 * fraction)

    @rule(delivery=deliveries)
    def complete(self, delivery: Delivery) -> None:
        self._tick()
        name = f"result.{delivery.lease}.json"
        fields = {"result": name, "stored_bytes": 7, "duration_s": AUDIO_S}
        outcome = self.store.complete(delivery.task_id, delivery.lease, now=self.now, fields=fields)
        assert outcome is self._expected_of_end(delivery, JobState.COMPLETED)
        if outcome is MoveOutcome.MOVED:
            self._moved(delivery.task_id, JobState.COMPLETED)
            job = self.jobs[delivery.task_id]
            job.result, job.stored_bytes = name, 7
            self.audio_s[job.client] += AUDIO_S

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

    @rule(delivery=deliveries)
    def keep(self, delivery: Delivery) -> None:
        """The result is there and its delivery begins: the record names it before the job's end."""
        name = f"result.{delivery.lease}.json"
        written = self.store.report(delivery.task_id, delivery.lease, {"result": name})
        assert written == self._owns(delivery)
        if written:
            self.jobs[delivery.task_id].result = name

    @rule(task_id=published)
    def complete_kept(self, task_id: str) -> None:
        """The sweeper completes a job whose attempts died delivering, unless somebody owns it after all."""
        job = self.jobs[task_id]
        self._tick()
        completed = self.store.complete_kept(task_id, now=self.now, fields={}) is MoveOutcome.MOVED
        open_end = not job.gone and not job.state.is_final and job.owner not in self.held
        assert completed == (open_end and bool(job.result))
        if completed:
            self._moved(task_id, JobState.COMPLETED)

    @rule(task_id=published, code=st.sampled_from([GIVEN_UP, "another"]))
    def revive(self, task_id: str, code: str) -> None:
        """An operator's retry of a dead letter: the job begins anew. No move, so ``seen`` does, too."""
        job = self.jobs[task_id]
        waits, failed = job.state is JobState.WAITING, job.state is JobState.FAILED and code == GIVEN_UP
        assert self.store.revive(task_id, code) == (not job.gone and (waits or failed))
        if not job.gone and failed:
            job.state, job.owner, job.seen = JobState.WAITING, "", [JobState.WAITING]

    # What ends a record.

    @rule(task_id=published, client=st.sampled_from(OWNERS))
    def release(self, task_id: str, client: str) -> None:
        job = self.jobs[task_id]
        record = self.store.release(task_id, client)
        assert (record is not None) == (not job.gone and client == job.client)
        job.gone = job.gone or client == job.client

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
            for client in OWNERS:
                is_theirs = client == job.client
                assert self.store.find(task_id, client) == (record if is_theirs else None)
                assert self.store.is_gone(task_id, client) == (job.gone and is_theirs)
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
    def the_owners_books_say_what_the_records_say(self) -> None:
        books = OwnerBooks(self.client)
        usage = {found.owner: found for found in books.usage()}
        for client in OWNERS:
            theirs = [(name, job) for name, job in self._left() if job.client == client]
            for state in JobState:
                places = books.newest(client, [state], limit=1000)
                names = [name for name, job in theirs if job.state is state]
                assert [place.task_id for place in reversed(places)] == names
                assert client not in usage or usage[client].jobs[state] == len(names)
            if client in usage:
                assert usage[client].stored_bytes == sum(job.stored_bytes for _, job in theirs)
                assert usage[client].audio_s == self.audio_s[client]
            else:
                assert not theirs

    @invariant()
    def a_key_lives_as_long_as_its_job(self) -> None:
        kept = {
            idempotency_key(job.client, job.key): {"task": name, "fingerprint": job.fingerprint}
            for name, job in self._left()
            if job.key
        }
        assert {key: self.client.hgetall(key) for key in self.client.scan_iter("once:*")} == kept

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

    def _left(self) -> list[tuple[str, Model]]:
        """The jobs that are not gone, oldest first."""
        return [(name, job) for name, job in self.jobs.items() if not job.gone]

    def _expected_of_accept(self, record: JobRecord, key: str, fingerprint: str) -> tuple[Verdict, str]:
        theirs = [(name, job) for name, job in self._left() if job.client == record.owner]
        for name, job in theirs:
            if key and job.key == key:
                return (Verdict.ACCEPTED if job.fingerprint == fingerprint else Verdict.KEY_REUSED), name
        if sum(job.state is JobState.WAITING for _, job in theirs) >= LIMITS.waiting:
            return Verdict.OWNER_WAITS, ""
        if sum(job.stored_bytes for _, job in theirs) + record.size_bytes > LIMITS.stored_bytes:
            return Verdict.OWNER_STORES, ""
        return Verdict.ACCEPTED, record.id

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
        if target not in MOVES[job.state] or (job.state, target) == (JobState.WAITING, JobState.COMPLETED):
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
