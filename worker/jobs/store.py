"""Reads and changes job records. Each change is one Lua script, so no two processes can half-win."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from worker.jobs import keys
from worker.jobs.admission import Admission, OwnerLimits, Verdict
from worker.jobs.estimate import Counts, Expiry, Load
from worker.jobs.moves import Fence, MoveOutcome
from worker.jobs.priority import Priority, accepted_at, waiting_score
from worker.jobs.record import ANONYMOUS, FORMAT, JobRecord
from worker.jobs.states import JobState, sources_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

    from worker.jobs.admission import Once

_END_OF_TIME = 1e10  # Unix seconds: in 2286
_SCRIPTS = Path(__file__).parent / "scripts"
_NO_LIMITS = OwnerLimits()
_MOVE_KEYS = [keys.WAITING_INDEX, keys.RUNNING_INDEX, keys.ENDED_INDEX, keys.LOAD]


class JobStore:
    """The job records of one Redis server.

    Args:
        client: With ``decode_responses=True``. Shared freely between threads.
        group: The consumer group in whose pending lists a lease is looked up.
        expiry_s: Life of a job after its end, and of the tombstone after that.
    """

    def __init__(self, client: redis.Redis, *, group: str, expiry_s: int) -> None:
        self._client = client
        self._group = group
        self._expiry_s = expiry_s
        self._accept = self._script("books", "accept")
        self._find = self._script("find")
        self._move = self._script("held", "books", "move")
        self._deliver = self._script("books", "deliver")
        self._report = self._script("held", "books", "report")
        self._note_speed = self._script("note_speed")
        self._revive = self._script("books", "revive")
        self._remove = self._script("books", "remove")

    def accept(
        self,
        record: JobRecord,
        *,
        max_waiting: int,
        limits: OwnerLimits = _NO_LIMITS,
        once: Once | None = None,
    ) -> Admission:
        """Write the record of a new job; not so where the queue or its owner has enough already.

        Safe to repeat. With ``once``, another request's job under the same key is never made.
        """
        books = {"owner": record.owner, "stored_bytes": str(record.size_bytes), "format": str(FORMAT)}
        fields = {**record.to_hash(), **books, "idempotency": once.key if once else ""}
        args: list[Any] = [
            *(record.id, max_waiting, record.waiting_score, record.size_bytes),
            *(record.owner, limits.waiting, limits.stored_bytes, once.fingerprint if once else ""),
        ]
        all_keys = [keys.job_key(record.id), keys.WAITING_INDEX, keys.LOAD, once.key if once else ""]
        verdict, task_id = self._accept(keys=all_keys, args=[*args, *_flatten(fields)])
        return Admission(Verdict(verdict), task_id)

    def find(self, task_id: str, owner: str) -> JobRecord | None:
        """The job, for its owner; of another's it answers as if there were none, after the same work."""
        flat = self._find(keys=[keys.job_key(task_id)], args=[owner])
        return _record(flat)

    def get(self, task_id: str) -> JobRecord | None:
        fields = cast("dict[str, str]", self._client.hgetall(keys.job_key(task_id)))
        return JobRecord.model_validate(fields) if fields else None

    def claim(self, task_id: str, lease: str, *, attempt: int, worker: str, now: float) -> MoveOutcome:
        """Make the delivery ``lease`` the job's one attempt; NEWER where this release can't work on it."""
        fields = {"lease": lease, "attempt": attempt, "worker": worker, "started_at": now}
        fresh = {
            "step": "",
            "step_number": 0,
            "step_of": 0,
            "fraction": 0.0,
            "eta_s": "",
            "speed_x": "",
            "deadline": "",
            "moved_at": now,
        }
        return self._moved(task_id, JobState.RUNNING, Fence.TAKE, lease, now, {**fields, **fresh})

    def report(self, task_id: str, lease: str, fields: dict[str, Any]) -> bool:
        """Write progress; False where this attempt no longer owns the job."""
        args = [lease, self._group, task_id, *_flatten(fields)]
        return bool(self._report(keys=[keys.job_key(task_id), keys.CHANGES], args=args))

    def complete(self, task_id: str, lease: str, *, now: float, fields: dict[str, Any]) -> MoveOutcome:
        """The commit: the result file named in ``fields`` becomes the job's one result."""
        return self._end(task_id, JobState.COMPLETED, Fence.HOLD, lease, now, fields)

    def complete_kept(self, task_id: str, *, now: float, fields: dict[str, Any]) -> MoveOutcome:
        """Complete a job that nobody owns, with the result that its record names; ILLEGAL without one."""
        return self._end(task_id, JobState.COMPLETED, Fence.LOST, "", now, fields)

    def note_delivered(self, task_id: str, result: str, fields: dict[str, Any]) -> bool:
        """Note that a completed job's ``result`` is no longer here; False where it is no such job's."""
        args = [task_id, result, *_flatten(fields)]
        return bool(self._deliver(keys=[keys.job_key(task_id), keys.CHANGES], args=args))

    def fail(
        self,
        task_id: str,
        *,
        code: str,
        message: str,
        step: str,
        now: float,
        lease: str = "",
        fence: Fence,
        fields: dict[str, Any] | None = None,
    ) -> MoveOutcome:
        error = {"error_code": code, "error_message": message, "error_step": step}
        fields = {**error, **(fields or {})}
        return self._end(task_id, JobState.FAILED, fence, lease, now, fields)

    def wait_again(self, record: JobRecord, *, fence: Fence) -> MoveOutcome:
        """Put a running job back among the waiting, at the place its priority and age give it."""
        return self._moved(
            record.id, JobState.WAITING, fence, record.lease, record.waiting_score, {"worker": ""}
        )

    def revive(self, task_id: str, given_up_code: str) -> bool:
        """Let a job that failed with this code wait again; False where it did not. Safe to repeat.

        The one way out of a final state, for an operator's retry of a dead letter.
        """
        webhook = [keys.WEBHOOKS_DUE, keys.webhook_key(task_id, JobState.FAILED)]
        indexes = [keys.WAITING_INDEX, keys.ENDED_INDEX, keys.LOAD]
        all_keys = [keys.job_key(task_id), *indexes, *webhook, keys.CHANGES]
        record = self.get(task_id)
        return record is not None and bool(
            self._revive(keys=all_keys, args=[task_id, given_up_code, record.waiting_score])
        )

    def release(self, task_id: str, owner: str = ANONYMOUS) -> JobRecord | None:
        """Forget the owner's job, whatever its state; its record as it was."""
        return self._removed(task_id, "", owner)

    def expire(self, task_id: str, now: float) -> JobRecord | None:
        """Forget the job if it ended long enough ago."""
        return self._removed(task_id, str(now), "")

    def is_gone(self, task_id: str, owner: str = ANONYMOUS) -> bool:
        """Whether this owner had such a job, released or expired lately."""
        return cast("str | None", self._client.get(keys.tombstone_key(task_id))) == owner

    def expired_ids(self, now: float, limit: int = 1000) -> list[str]:
        return self._ids(
            self._client.zrange(keys.ENDED_INDEX, "-inf", cast("Any", now), byscore=True, offset=0, num=limit)
        )

    def expiry(self) -> Expiry:
        """How many jobs have expired, and when the next one does. O(1)."""
        pipe = self._client.pipeline(transaction=False)
        pipe.hget(keys.LOAD, "expired")
        pipe.zrange(keys.ENDED_INDEX, 0, 0, withscores=True)
        expired, first = pipe.execute()
        return Expiry(int(expired or 0), first[0][1] if first else None)

    def running_ids(self) -> list[str]:
        return self._ids(self._client.zrange(keys.RUNNING_INDEX, 0, -1))

    def waiting_before(self, created_at: float) -> list[str]:
        """Jobs that have waited since before this time, the most urgent first."""
        found: list[str] = []
        for priority in Priority:
            lowest, highest = waiting_score(priority, 0), waiting_score(priority, created_at)
            found += self._ids(self._client.zrange(keys.WAITING_INDEX, lowest, highest, byscore=True))
        return found

    def counts(self) -> Counts:
        """How many jobs wait and run. O(log n)."""
        pipe = self._client.pipeline(transaction=False)
        pipe.zcard(keys.RUNNING_INDEX)
        for priority in Priority:
            lowest, highest = waiting_score(priority, 0), waiting_score(priority, _END_OF_TIME)
            pipe.zcount(keys.WAITING_INDEX, lowest, highest)
            pipe.zrange(keys.WAITING_INDEX, lowest, highest, byscore=True, offset=0, num=1, withscores=True)
        running, *rest = pipe.execute()
        first = [
            accepted_at(priority, found[0][1])
            for priority, found in zip(Priority, rest[1::2], strict=True)
            if found
        ]
        return Counts(dict(zip(Priority, rest[::2], strict=True)), running, min(first, default=None))

    def note_speed(self, size_bytes: int, seconds: float) -> None:
        """Learn from a finished job how fast a worker is."""
        self._note_speed(keys=[keys.LOAD], args=[size_bytes, seconds])

    def load(self) -> Load:
        """What waits and how fast it goes. O(1)."""
        pipe = self._client.pipeline(transaction=False)
        pipe.zcard(keys.WAITING_INDEX)
        pipe.zcard(keys.RUNNING_INDEX)
        pipe.hgetall(keys.LOAD)
        waiting, running, sums = pipe.execute()
        return Load(
            waiting=waiting,
            running=running,
            waiting_bytes=int(sums.get("waiting_bytes", 0)),
            done_bytes=float(sums.get("done_bytes", 0)),
            done_seconds=float(sums.get("done_seconds", 0)),
        )

    def position(self, task_id: str) -> int | None:
        """How many jobs wait before this one, plus one; None where it does not wait. O(log n)."""
        rank = cast("int | None", self._client.zrank(keys.WAITING_INDEX, task_id))
        return None if rank is None else rank + 1

    def positions(self, task_ids: Iterable[str]) -> dict[str, int]:
        """As ``position``, of several; without those that do not wait."""
        ids = list(task_ids)
        pipe = self._client.pipeline(transaction=False)
        for task_id in ids:
            pipe.zrank(keys.WAITING_INDEX, task_id)
        found = zip(ids, pipe.execute(), strict=True)
        return {task_id: rank + 1 for task_id, rank in found if rank is not None}

    def known(self, task_ids: Iterable[str]) -> set[str]:
        """Those of the ids that have a record."""
        ids = list(task_ids)
        pipe = self._client.pipeline(transaction=False)
        for task_id in ids:
            pipe.exists(keys.job_key(task_id))
        return {task_id for task_id, found in zip(ids, pipe.execute(), strict=True) if found}

    def _end(
        self, task_id: str, state: JobState, fence: Fence, lease: str, now: float, fields: dict[str, Any]
    ) -> MoveOutcome:
        expires_at = now + self._expiry_s
        ended = {"ended_at": now, "expires_at": expires_at, "eta_s": "", **fields}
        return self._moved(task_id, state, fence, lease, expires_at, ended)

    def _moved(
        self, task_id: str, state: JobState, fence: Fence, lease: str, score: float, fields: dict[str, Any]
    ) -> MoveOutcome:
        sources = "".join(f"{source}," for source in sources_of(state))
        head: list[Any] = [task_id, state, sources, fence, lease, self._group, score, FORMAT]
        webhook = [keys.WEBHOOKS_DUE, keys.webhook_key(task_id, state)]
        all_keys = [keys.job_key(task_id), *_MOVE_KEYS, *webhook, keys.CHANGES]
        return MoveOutcome(self._move(keys=all_keys, args=[*head, *_flatten(fields)]))

    def _removed(self, task_id: str, expired_by: str, owner: str) -> JobRecord | None:
        ends = [keys.webhook_key(task_id, state) for state in (JobState.COMPLETED, JobState.FAILED)]
        webhooks = [keys.WEBHOOKS_DUE, *ends, keys.CHANGES]
        all_keys = [keys.job_key(task_id), *_MOVE_KEYS, keys.tombstone_key(task_id), *webhooks]
        return _record(self._remove(keys=all_keys, args=[task_id, self._expiry_s, expired_by, owner]))

    def _script(self, *names: str) -> Any:
        """The scripts of these names as one."""
        return self._client.register_script("".join((_SCRIPTS / f"{name}.lua").read_text() for name in names))

    @staticmethod
    def _ids(reply: object) -> list[str]:
        return cast("list[str]", reply)


def _record(flat: list[str]) -> JobRecord | None:
    return JobRecord.model_validate(dict(zip(flat[::2], flat[1::2], strict=True))) if flat else None


def _flatten(fields: dict[str, Any]) -> list[str]:
    flat: list[str] = []
    for name, value in fields.items():
        flat += [name, value if isinstance(value, str) else json.dumps(value)]
    return flat
