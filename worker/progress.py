"""Progress of an attempt: where it is, how long it will take, and whether the job is still its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import redis

from worker.logs import get_logger
from worker.patience import is_away
from worker.tracing import Steps

if TYPE_CHECKING:
    from worker.engines.protocol import Progress
    from worker.jobs import JobStore

log = get_logger(__name__)

REPORT_EVERY_S = 1.0
PAUSE_WHEN_AWAY_S = 10.0  # a frozen server costs a socket timeout a try
FETCH, CONVERT = "fetch", "convert"
FETCH_SHARE = 0.1  # of the whole work, where a recording is fetched


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
    own_steps: tuple[str, ...] = (CONVERT,)  # the service's, before the engine's
    steps: Steps = field(default_factory=Steps)

    def __post_init__(self) -> None:
        self._last_report = float("-inf")
        self._engine_started: float | None = None
        self._first_fraction = 0.0  # above 0 where an earlier attempt's work was taken over
        self._total_s = 0.0  # the recording's length
        self._deadline: float | None = None
        self._fields: dict[str, Any] = {}

    def step(self, name: str) -> None:
        """Enter one of the service's own steps, or say that it moves on."""
        self._enter(name)
        self._write(self._own_step(0.0 if name == FETCH else self._fetch_share))

    def fetching(self, done_bytes: int, total_bytes: int | None) -> None:
        """So much of the recording has come from its URL."""
        fraction = round(FETCH_SHARE * done_bytes / total_bytes, 4) if total_bytes else 0.0
        # What begins anew, because the server has another version by now, has come so far all the same.
        self._fields = self._own_step(max(fraction, self._fields["fraction"]))
        self.still_fetching()

    def still_fetching(self) -> None:
        """Raise Abandoned soon after the job stopped being ours.

        Counts as getting on, also while nothing comes: a fetch has time limits of its own.
        """
        if self._is_due():
            self._write({**self._fields, "moved_at": time.time()})

    def received(self, size_bytes: int) -> dict[str, Any]:
        """The recording is there; what the record is to say of it. The caller writes it."""
        self.current_step = FETCH
        self._fields = self._own_step(FETCH_SHARE)
        return {**self._fields, "size_bytes": size_bytes, "stored_bytes": size_bytes}

    def limit(self, seconds: float) -> None:
        """The engine begins, and may run so long: the worker's guard kills what runs on."""
        self._deadline = time.time() + seconds

    def from_engine(self, progress: Progress) -> None:
        if self._engine_started is None:
            self._engine_started = time.monotonic()
            self._first_fraction = progress.fraction
        entered = self._enter(progress.step)
        self._total_s = progress.total_s or self._total_s
        elapsed_s = time.monotonic() - self._engine_started
        fraction = round(self._fetch_share + (1 - self._fetch_share) * progress.fraction, 4)
        moved = entered or fraction > self._fields.get("fraction", 0.0)
        self._fields = {
            "moved_at": time.time() if moved else self._fields["moved_at"],
            "step": progress.step,
            "step_number": progress.number + len(self.own_steps),
            "step_of": progress.of + len(self.own_steps),
            "fraction": fraction,
            "eta_s": remaining_s(elapsed_s, progress.fraction, self._first_fraction),
            "speed_x": speed_x(elapsed_s, (progress.fraction - self._first_fraction) * self._total_s),
            "deadline": self._deadline or "",
        }
        if entered or self._is_due():
            self._write(self._fields)

    def delivering(self) -> dict[str, Any]:
        """Enter the step behind the engine's, whose time limit is over; what the record is to say of it.

        The caller writes it, with news that must not get lost. ``check`` writes it again.
        """
        self._enter("deliver")
        last = self._fields.get("step_of", len(self.own_steps)) + 1
        place = {"step": self.current_step, "step_number": last, "step_of": last, "fraction": 1.0}
        self._deadline = None
        self._fields = {**place, "eta_s": "", "deadline": "", "moved_at": time.time()}
        return self._fields

    def check(self) -> None:
        """Raise Abandoned soon after the job stopped being ours. Cheap: engines call it often."""
        if self._fields and self._is_due():
            self._write(self._fields)

    @property
    def _fetch_share(self) -> float:
        return FETCH_SHARE if FETCH in self.own_steps else 0.0

    def _enter(self, name: str) -> bool:
        """Whether it is another step than before."""
        if name == self.current_step:
            return False
        self.current_step = name
        self.steps.enter(name)
        log.info("step_entered", task_id=self.task_id, step=name)  # engines may tell from threads of theirs
        return True

    def _own_step(self, fraction: float) -> dict[str, Any]:
        return {
            "step": self.current_step,
            "step_number": self.own_steps.index(self.current_step) + 1,
            "step_of": len(self.own_steps) + 1,
            "fraction": fraction,
            "moved_at": time.time(),
        }

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


def speed_x(elapsed_s: float, done_s: float) -> float | str:
    """Seconds of the recording for each second of work; '' (unknown) at the start."""
    return round(done_s / elapsed_s, 2) if elapsed_s and done_s > 0 else ""
