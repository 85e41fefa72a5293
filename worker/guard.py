"""The parent's own look at its child: is the job still wanted, and does the engine still move?

An engine that runs longer than its recording's length allows is stopped, too: its job has failed then.

A release or a cancel tells the workers by a broadcast, which a worker that is reconnecting or draining does
not hear, and an engine that hangs never asks. So the parent compares what runs with the records. The lease
is no help there: it is renewed for as long as the parent lives.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from worker.errors import Cancelled, TimeLimitExceeded
from worker.jobs import Fence, JobState, MoveOutcome
from worker.logs import get_logger
from worker.streams.requests import running_children

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.jobs import JobRecord, JobStore

log = get_logger(__name__)

LONGEST_GAP_S = 30.0  # looks further apart than this say nothing of what was between

Place = tuple[int, float | None]


@dataclass(frozen=True)
class Sighting:
    """Where an attempt was when it was first seen there."""

    place: Place
    since: float  # monotonic seconds


class Guard:
    """Kills attempts at jobs that were released or cancelled, and attempts that stand still.

    It kills the child alone: Celery then gives the entry back, as for any dead child, and whoever is given
    it next finds the job ended or gone.

    Args:
        stall_s: Seconds without progress after which an attempt is taken to hang.
        ended: Called with the id of a job that it has made fail.
    """

    def __init__(
        self, store: JobStore, stall_s: float, ended: Callable[[str], None] = lambda _task_id: None
    ) -> None:
        self._store = store
        self._stall_s = stall_s
        self._ended = ended
        self._unwanted: set[str] = set()
        self._seen: dict[str, Sighting] = {}
        self._looked_at = float("-inf")

    def look(self) -> None:
        """Call every few seconds.

        An unwanted attempt is killed when two looks in a row find it so: the broadcast, or the attempt
        itself, may come first.
        """
        children = running_children()
        records = {task_id: self._store.get(task_id) for task_id in children}
        overdue = [record for record in records.values() if is_overdue(record, time.time())]
        for record in overdue:
            self._fail(record)
        for task_id in {*self._to_kill(records, time.monotonic()), *(record.id for record in overdue)}:
            log.warning("attempt_killed", task_id=task_id, unwanted=is_unwanted(records[task_id]))
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(children[task_id], signal.SIGKILL)

    def _fail(self, record: JobRecord) -> None:
        """Make this the job's end, if the attempt still owns it; whoever is given the entry next finds it."""
        outcome = self._store.fail(
            record.id,
            code=TimeLimitExceeded.code,
            message="the engine ran longer than a recording of this length may take (TIME_LIMIT_X, "
            "TIME_LIMIT_MIN_S): send it in parts, or have the limit raised",
            step=record.step,
            now=time.time(),
            lease=record.lease,
            fence=Fence.HOLD,
        )
        if outcome is MoveOutcome.MOVED:
            self._ended(record.id)

    def _to_kill(self, records: dict[str, JobRecord | None], now: float) -> list[str]:
        before = self._seen if now - self._looked_at < LONGEST_GAP_S else {}
        self._looked_at = now
        self._seen = seen_now(before, records, now)
        unwanted = {task_id for task_id, record in records.items() if is_unwanted(record)}
        twice, self._unwanted = unwanted & self._unwanted, unwanted
        return [*twice, *stalled(self._seen, now, self._stall_s)]


def is_unwanted(record: JobRecord | None) -> bool:
    return record is None or record.error_code == Cancelled.code


def is_overdue(record: JobRecord | None, now: float) -> TypeGuard[JobRecord]:
    return (
        record is not None
        and record.state is JobState.RUNNING
        and record.deadline is not None
        and now > record.deadline
    )


def seen_now(
    before: dict[str, Sighting], records: dict[str, JobRecord | None], now: float
) -> dict[str, Sighting]:
    """The running attempts' places; the time of an earlier sighting stays where the place is the same."""
    seen = {}
    for task_id, record in records.items():
        if record is not None:
            place = (record.attempt, record.moved_at)
            known = before.get(task_id)
            seen[task_id] = known if known and known.place == place else Sighting(place, now)
    return seen


def stalled(seen: dict[str, Sighting], now: float, stall_s: float) -> list[str]:
    return [task_id for task_id, sighting in seen.items() if now - sighting.since > stall_s]
