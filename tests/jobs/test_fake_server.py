"""The job scripts on fakeredis and on the real server, side by side: the same verdicts, the same keys.

fakeredis is another implementation of the commands, with another Lua (lupa), in this process. So what is
compared is that the scripts rest on nothing but what the commands promise. It has no time, no blocking and
no crash; test_state_machine.py has the model, on the real server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fakeredis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from worker.jobs import Fence, JobRecord, JobState, JobStore, OwnerBooks, OwnerLimits, Priority

if TYPE_CHECKING:
    import redis

    from tests.support.redis_server import RedisServer

GROUP, STREAM = "celery", "q:{transcribe}:main"
OWNERS = ("ann", "bob")
JOBS = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(3)]
LIMITS = OwnerLimits(waiting=2, stored_bytes=2000)
EXPIRY_S = 100
STARTED = 1_000_000.0

jobs = st.sampled_from(JOBS)
deliveries = st.integers(1, 4)
STEPS = st.one_of(
    st.tuples(st.just("accept"), jobs, st.sampled_from(OWNERS), st.sampled_from(list(Priority))),
    st.tuples(st.just("deliver")),
    st.tuples(st.just("acknowledge"), deliveries),
    st.tuples(st.sampled_from(["claim", "report", "complete", "fail"]), jobs, deliveries),
    st.tuples(st.sampled_from(["wait_again", "bury", "complete_kept", "revive", "expire"]), jobs),
    st.tuples(st.just("release"), jobs, st.sampled_from(OWNERS)),
)

# Accepted, too early to complete, claimed by a delivery that is held, not by another, done, and gone.
A_LIFE: list[tuple[Any, ...]] = [
    ("accept", JOBS[0], OWNERS[0], Priority.NORMAL),
    ("complete", JOBS[0], 1),
    ("deliver",),
    ("claim", JOBS[0], 2),
    ("claim", JOBS[0], 1),
    ("complete", JOBS[0], 1),
    ("claim", JOBS[0], 1),
    ("release", JOBS[0], OWNERS[0]),
    ("claim", JOBS[0], 1),
]


class Side:
    """A store on one server. Entries have numbers for ids, so that leases are the same on both sides."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        client.flushall()
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        self.store = JobStore(client, group=GROUP, expiry_s=EXPIRY_S)
        self.entries, self.now = 0, STARTED

    def do(self, step: tuple[Any, ...]) -> object:
        self.now += 1
        name, *arguments = step
        return getattr(self, name)(*arguments)

    def accept(self, task_id: str, owner: str, priority: Priority) -> object:
        record = JobRecord(
            id=task_id,
            state=JobState.WAITING,
            owner=owner,
            created_at=self.now,
            size_bytes=900,
            priority=priority,
            webhook_url="https://hooks.example/x",
        )
        return self.store.accept(record, max_waiting=3, limits=LIMITS)

    def deliver(self) -> object:
        self.entries += 1
        self.client.xadd(STREAM, {"m": "{}"}, id=f"{self.entries}-0")
        return len(self.client.xreadgroup(GROUP, "w", {STREAM: ">"}))

    def acknowledge(self, number: int) -> object:
        return self.client.xack(STREAM, GROUP, f"{number}-0"), self.client.xdel(STREAM, f"{number}-0")

    def claim(self, task_id: str, number: int) -> object:
        return self.store.claim(task_id, lease(number), attempt=1, worker="w", now=self.now)

    def report(self, task_id: str, number: int) -> object:
        return self.store.report(task_id, lease(number), {"fraction": 0.5, "result": f"result.{number}.json"})

    def complete(self, task_id: str, number: int) -> object:
        fields = {"result": f"result.{number}.json", "stored_bytes": 7, "duration_s": 1.25}
        return self.store.complete(task_id, lease(number), now=self.now, fields=fields)

    def fail(self, task_id: str, number: int) -> object:
        return self._fail(task_id, lease(number), Fence.HOLD)

    def bury(self, task_id: str) -> object:
        return self._fail(task_id, "", Fence.LOST)

    def _fail(self, task_id: str, held: str, fence: Fence) -> object:
        return self.store.fail(
            task_id, code="worker_lost", message="x", step="", now=self.now, lease=held, fence=fence
        )

    def wait_again(self, task_id: str) -> object:
        record = self.store.get(task_id)
        return record and self.store.wait_again(record, fence=Fence.LOST)

    def complete_kept(self, task_id: str) -> object:
        return self.store.complete_kept(task_id, now=self.now, fields={})

    def revive(self, task_id: str) -> object:
        return self.store.revive(task_id, "worker_lost")

    def expire(self, task_id: str) -> object:
        return self.store.expire(task_id, self.now + EXPIRY_S)

    def release(self, task_id: str, owner: str) -> object:
        return self.store.release(task_id, owner)

    def seen(self) -> dict[str, object]:
        """All that readers can tell, and every key but the stream."""
        books = OwnerBooks(self.client)
        return {
            "counts": self.store.counts(),
            "load": self.store.load(),
            "positions": self.store.positions(JOBS),
            "gone": [self.store.is_gone(task_id, owner) for task_id in JOBS for owner in OWNERS],
            "usage": sorted(books.usage(), key=lambda usage: usage.owner),
            "keys": {key: self._content(key) for key in sorted(self.client.keys("*")) if key != STREAM},
        }

    def _content(self, key: str) -> object:
        readers: dict[str, Any] = {
            "hash": self.client.hgetall,
            "zset": lambda name: [tuple(found) for found in self.client.zrange(name, 0, -1, withscores=True)],
            "string": self.client.get,
        }
        return readers[str(self.client.type(key))](key)


def lease(number: int) -> str:
    return f"{number}-0@{STREAM}"


def test_both_servers_come_to_the_same_verdicts(redis_server: RedisServer) -> None:
    fake = fakeredis.FakeRedis(decode_responses=True)
    verdicts = set()
    with redis_server.client() as real:

        @settings(
            max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
        )
        @given(steps=st.lists(STEPS, min_size=5, max_size=30))
        @example(steps=A_LIFE)
        def compare(steps: list[tuple[Any, ...]]) -> None:
            sides = (Side(real), Side(fake))
            for step in steps:
                first, second = (side.do(step) for side in sides)
                assert first == second, step
                verdicts.add(str(first))
            assert sides[0].seen() == sides[1].seen()

        compare()
    fake.close()
    assert {"moved", "gone", "ended", "illegal", "lost"} <= verdicts
