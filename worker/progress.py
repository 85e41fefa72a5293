"""Progress of an attempt: where it is, how long it will take, and whether the job is still its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import redis

from worker.logs import get_logger
from worker.patience import is_away

if TYPE_CHECKING:
    from worker.engines.protocol import Progress
    from worker.jobs import JobStore

log = get_logger(__name__)

REPORT_EVERY_S = 1.0
PAUSE_WHEN_AWAY_S = 10.0  # a frozen server costs a socket timeout a try
OWN_STEPS = 1  # "convert" comes before the engine's


class Abandoned(BaseException):
    """The job is no longer this attempt's: released, ended, or given to another worker.

    A BaseException, so that no engine's ``except Exception`` swallows it.
    """


class Publish(Protocol):
    def __call__(self, *, state: str, meta: dict[str, Any]) -> None: ...


@dataclass
class Reporter:
    """Writes progress to the record and to Celery's state, at most once in REPORT_EVERY_S.

    Each write asks whether the lease is still held; where it is not, it raises Abandoned in the middle
    of the engine's work. With Redis away the work goes on unreported.
    """

    store: JobStore
    task_id: str
    lease: str
    publish: Publish
    current_step: str = ""

    def __post_init__(self) -> None:
        self._last_report = float("-inf")
        self._engine_started: float | None = None
        self._first_fraction = 0.0  # above 0 where an earlier attempt's work was taken over
        self._deadline: float | None = None
        self._fields: dict[str, Any] = {}

    def step(self, name: str) -> None:
        """Enter one of the service's own steps, or say that it moves on."""
        self.current_step = name
        fields = {"step": name, "step_number": OWN_STEPS, "step_of": OWN_STEPS + 1, "fraction": 0.0}
        self._write({**fields, "moved_at": time.time()})

    def limit(self, seconds: float) -> None:
        """The engine begins, and may run so long: the worker's guard kills what runs on."""
        self._deadline = time.time() + seconds

    def from_engine(self, progress: Progress) -> None:
        if self._engine_started is None:
            self._engine_started = time.monotonic()
            self._first_fraction = progress.fraction
        entered = progress.step != self.current_step
        self.current_step = progress.step
        moved = entered or progress.fraction > self._fields.get("fraction", 0.0)
        self._fields = {
            "moved_at": time.time() if moved else self._fields["moved_at"],
            "step": progress.step,
            "step_number": progress.number + OWN_STEPS,
            "step_of": progress.of + OWN_STEPS,
            "fraction": round(progress.fraction, 4),
            "eta_s": remaining_s(
                time.monotonic() - self._engine_started, progress.fraction, self._first_fraction
            ),
            "deadline": self._deadline or "",
        }
        if entered or self._is_due():
            self._write(self._fields)

    def check(self) -> None:
        """Raise Abandoned soon after the job stopped being ours. Cheap: engines call it often."""
        if self._fields and self._is_due():
            self._write(self._fields)

    def _is_due(self) -> bool:
        return time.monotonic() - self._last_report >= REPORT_EVERY_S

    def _write(self, fields: dict[str, Any]) -> None:
        self._fields = fields
        self._last_report = time.monotonic()
        try:
            if not self.store.report(self.task_id, self.lease, fields):
                raise Abandoned("lost")
            self.publish(state="PROGRESS", meta=fields)
        except redis.RedisError as exc:
            if not is_away(exc):
                raise
            self._last_report += PAUSE_WHEN_AWAY_S
            log.warning("progress_unreported", error=type(exc).__name__)


def remaining_s(elapsed_s: float, fraction: float, first: float = 0.0) -> float | str:
    """Seconds left at the speed so far; '' (unknown) before there is a speed to go by.

    Args:
        first: The fraction at which the time began to count.
    """
    least, done = 0.01, fraction - first
    return round(elapsed_s * (1 - fraction) / done, 1) if done >= least else ""
