"""Reads the owners' books, which the scripts keep in step with the records (scripts/books.lua)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from worker.jobs import keys
from worker.jobs.record import JobRecord
from worker.jobs.states import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis


@dataclass(frozen=True, order=True)
class Place:
    """A job's place among its owner's jobs: by time of acceptance (Unix seconds), then by task id."""

    created_at: float
    task_id: str


@dataclass(frozen=True)
class Usage:
    """``audio_s``: transcribed since the server began, jobs that are gone included."""

    owner: str
    jobs: dict[JobState, int]
    stored_bytes: int
    audio_s: float


@dataclass(frozen=True)
class Holdings:
    """What an owner's jobs take up now."""

    waiting: int
    stored_bytes: int


class OwnerBooks:
    """The books of one Redis server. ``client``: with ``decode_responses=True``; threads share it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def newest(
        self, owner: str, states: Iterable[JobState], *, limit: int, after: Place | None = None
    ) -> list[Place]:
        """The owner's jobs in these states, newest first, from behind ``after``."""
        pipe = self._client.pipeline(transaction=True)  # a job that moves meanwhile is in one index, not none
        for state in states:
            _read_older(pipe, keys.owner_index(owner, state), limit, after)
        found = {Place(score, task_id) for reply in pipe.execute() for task_id, score in reply}
        return sorted((place for place in found if after is None or place < after), reverse=True)[:limit]

    def records(self, task_ids: Iterable[str]) -> list[JobRecord]:
        """In the order asked for, without those that have gone."""
        pipe = self._client.pipeline(transaction=False)
        for task_id in task_ids:
            pipe.hgetall(keys.job_key(task_id))
        return [JobRecord.model_validate(fields) for fields in pipe.execute() if fields]

    def holdings(self, owner: str) -> Holdings:
        pipe = self._client.pipeline(transaction=False)
        pipe.zcard(keys.owner_index(owner, JobState.WAITING))
        pipe.hget(keys.STORED, owner)
        waiting, stored = pipe.execute()
        return Holdings(waiting, int(stored or 0))

    def room_bytes(self, owner: str, most_bytes: int) -> int | None:
        """How much more the owner's jobs may hold; None where ``most_bytes`` is 0, no limit."""
        return max(0, most_bytes - self.holdings(owner).stored_bytes) if most_bytes else None

    def usage(self) -> list[Usage]:
        """Of every owner that ever had a job, by name."""
        stored = cast("dict[str, str]", self._client.hgetall(keys.STORED))
        audio = cast("dict[str, str]", self._client.hgetall(keys.AUDIO))
        return [self._usage(owner, stored[owner], audio.get(owner, "0")) for owner in sorted(stored)]

    def _usage(self, owner: str, stored: str, audio_ms: str) -> Usage:
        pipe = self._client.pipeline(transaction=True)
        for state in JobState:
            pipe.zcard(keys.owner_index(owner, state))
        jobs = dict(zip(JobState, pipe.execute(), strict=True))
        return Usage(owner, jobs, int(stored), int(audio_ms) / 1000)


def _read_older(pipe: redis.client.Pipeline, index: str, limit: int, after: Place | None) -> None:
    """Queue the reads of what may come behind ``after``: its own moment's jobs, then older ones."""
    newest: Any = "+inf" if after is None else f"({after.created_at!r}"
    if after is not None:
        moment: Any = repr(after.created_at)
        pipe.zrange(index, moment, moment, byscore=True, withscores=True)
    pipe.zrange(
        index, newest, cast("Any", "-inf"), desc=True, byscore=True, offset=0, num=limit, withscores=True
    )
