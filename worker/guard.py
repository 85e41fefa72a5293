"""The parent's own look at its child: is the job still wanted, and does the engine still move?

A release or a cancel tells the workers by a broadcast, which a worker that is reconnecting does not hear,
and an engine that hangs never asks. So the parent compares what runs with the records. The lease is no
help there: it is renewed for as long as the parent lives.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.errors import Cancelled
from worker.logs import get_logger
from worker.streams.requests import running_children

if TYPE_CHECKING:
    from celery import Celery

    from worker.jobs import JobRecord, JobStore

log = get_logger(__name__)

Place = tuple[int, str, float]


@dataclass(frozen=True)
class Sighting:
    """Where an attempt was when it was first seen there."""

    place: Place
    since: float  # monotonic seconds


class Guard:
    """Kills attempts at jobs that were released or cancelled, and attempts that stand still.

    Args:
        name: This worker's. A revocation goes through Celery's remote control even to ourselves: only its
            event loop may touch the pool.
        stall_s: Seconds without progress after which an attempt is taken to hang.
    """

    def __init__(self, app: Celery, store: JobStore, name: str, stall_s: float) -> None:
        self._app = app
        self._store = store
        self._name = name
        self._stall_s = stall_s
        self._unwanted: set[str] = set()
        self._seen: dict[str, Sighting] = {}

    def look(self) -> None:
        """Call every few seconds.

        An unwanted attempt is killed when two looks in a row find it so: the broadcast, or the attempt
        itself, may come first.
        """
        children = running_children()
        records = {task_id: self._store.get(task_id) for task_id in children}
        unwanted = {task_id for task_id, record in records.items() if is_unwanted(record)}
        for task_id in unwanted & self._unwanted:
            log.warning("unwanted_attempt_killed", task_id=task_id)
            self._app.control.revoke(task_id, terminate=True, signal="SIGKILL", destination=[self._name])
        self._unwanted = unwanted
        self._seen = seen_now(self._seen, records, time.monotonic())
        for task_id in stalled(self._seen, time.monotonic(), self._stall_s):
            log.error("stalled_attempt_killed", task_id=task_id, stall_s=self._stall_s)
            os.kill(children[task_id], signal.SIGKILL)  # an attempt is counted, as for any dead child
            del self._seen[task_id]


def is_unwanted(record: JobRecord | None) -> bool:
    return record is None or record.error_code == Cancelled.code


def seen_now(
    before: dict[str, Sighting], records: dict[str, JobRecord | None], now: float
) -> dict[str, Sighting]:
    """The running attempts' places; the time of an earlier sighting stays where the place is the same."""
    seen = {}
    for task_id, record in records.items():
        if record is not None:
            place = (record.attempt, record.step, record.fraction)
            known = before.get(task_id)
            seen[task_id] = known if known and known.place == place else Sighting(place, now)
    return seen


def stalled(seen: dict[str, Sighting], now: float, stall_s: float) -> list[str]:
    return [task_id for task_id, sighting in seen.items() if now - sighting.since > stall_s]
