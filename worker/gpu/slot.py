"""One worker process of the pool: started on its device, and again with back-off where it died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.gpu.report import State
from worker.logs import get_logger
from worker.processes import DEVICE_FAULT_EXIT, REFUSED_EXIT, describe_status, die_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.gpu.readings import Device, Reading

log = get_logger(__name__)

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 300.0
STABLE_AFTER_S = 60.0
ENDS_WITHIN_S = 60.0  # on a device that fails: a worker that can't end by itself is killed then


@dataclass(frozen=True)
class Obstacle:
    """Why no worker runs."""

    state: State
    reason: str


def backoff_s(failures: int) -> float:
    """Seconds before the next start, behind ``failures`` (from 1 on) in a row."""
    return float(min(FIRST_BACKOFF_S * 2.0 ** (failures - 1), LONGEST_BACKOFF_S))


def obstacle(reading: Reading | None, wait_s: float, last_end: str) -> Obstacle | None:
    """What stands against starting a worker on a device that reads so; None: nothing."""
    if reading is None:
        return Obstacle(State.MISSING, "the driver does not list the device")
    if reading.faults:
        return Obstacle(State.FAULTY, "; ".join(fault.text for fault in reading.faults))
    if wait_s > 0:
        return Obstacle(State.RESTARTING, f"its worker {last_end}; the next starts in {wait_s:.0f} s")
    return None


@dataclass
class Slot:
    """Times are monotonic seconds."""

    name: str
    device: Device
    argv: Sequence[str] = (sys.executable, "-m", "worker")
    obstacle: Obstacle | None = None
    was_refused: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _started_at: float = 0.0
    _not_before: float = 0.0
    _failures: int = 0
    _last_end: str = ""
    _failing_since: float | None = field(default=None)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tend(self, reading: Reading | None, now: float) -> None:
        """Note an end, start where nothing stands against it."""
        self._note_end(now)
        if self._process is not None:
            self._kill_if_stuck(reading, now)
            return
        self.obstacle = obstacle(reading, self._not_before - now, self._last_end)
        if self.obstacle is None:
            self._start(now)

    def signal(self, signum: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signum)  # nothing where it has ended

    def _start(self, now: float) -> None:
        self._process = subprocess.Popen(
            [*self.argv, "--name", self.name, "--gpu", self.device.uuid],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": self.device.uuid},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the pool, which passes it on
            preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509  two system calls
        )
        self._started_at = now
        log.info("worker_started", worker=self.name, device=self.device.uuid, pid=self._process.pid)

    def _note_end(self, now: float) -> None:
        status = self._process.poll() if self._process is not None else None
        if status is None:
            return
        lived_s = now - self._started_at
        self._process = None
        self._failures = 1 if lived_s > STABLE_AFTER_S else self._failures + 1
        self._not_before = now + backoff_s(self._failures)
        self.was_refused = status == REFUSED_EXIT
        self._last_end = "left its device" if status == DEVICE_FAULT_EXIT else describe_status(status)
        if not self.was_refused:  # that it has said itself, in the last line
            log.warning("worker_ended", worker=self.name, how=self._last_end, lived_s=round(lived_s, 1))

    def _kill_if_stuck(self, reading: Reading | None, now: float) -> None:
        if reading is not None and not reading.failures:
            self._failing_since = None
            return
        self._failing_since = self._failing_since or now
        if now - self._failing_since > ENDS_WITHIN_S:
            log.error("worker_killed", worker=self.name, reason="it did not leave a failing device")
            self.signal(signal.SIGKILL)
