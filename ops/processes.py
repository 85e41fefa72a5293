"""A child process of the local stack: started with its log, restarted with back-off, stopped for sure."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LIBC = ctypes.CDLL(None)
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 30.0
STABLE_AFTER_S = 60.0


@dataclass
class Child:
    """One process.

    ``orphan_signal`` comes when the stack dies, however it does: SIGKILL, so that nothing waits for a server
    that has gone with it. ``stop_signals`` are sent in turn, each with its seconds to obey; SIGKILL follows.
    """

    name: str
    argv: Sequence[str]
    env: dict[str, str]
    log_path: Path
    stop_signals: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 10.0),)
    orphan_signal: signal.Signals = signal.SIGKILL
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _started_at: float = field(default=0.0, init=False)
    _backoff_s: float = field(default=FIRST_BACKOFF_S, init=False)

    def start(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.argv,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the stack, which stops its children in order
                preexec_fn=self._die_with_parent(),  # noqa: PLW1509  it makes two system calls, no more
            )
        self._started_at = time.monotonic()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process else None

    def restart_if_dead(self) -> str | None:
        """Start it again if it died and its back-off has passed; what happened, for the operator."""
        status = self.exit_status()
        if status is None or time.monotonic() - self._started_at < self._backoff_s:
            return None
        lived_s = time.monotonic() - self._started_at
        self._backoff_s = (
            FIRST_BACKOFF_S if lived_s > STABLE_AFTER_S else min(self._backoff_s * 2, LONGEST_BACKOFF_S)
        )
        self.start()
        return f"{self.name} {describe_status(status)}: started again (log: {self.log_path})"

    def stop(self) -> None:
        for signum, patience_s in self.stop_signals:
            if self._signal_and_wait(signum, patience_s):
                return
        self._signal_and_wait(signal.SIGKILL, 10.0)

    def last_log_line(self) -> str:
        lines = [line for line in self.log_path.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "(no output)"

    def _die_with_parent(self) -> Callable[[], None]:
        signum, parent = int(self.orphan_signal), os.getpid()

        def arm() -> None:
            _LIBC.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
            if os.getppid() != parent:  # it died already
                os._exit(1)

        return arm

    def _signal_and_wait(self, signum: signal.Signals, patience_s: float) -> bool:
        if self._process is None or self._process.poll() is not None:
            return True
        self._process.send_signal(signum)
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            return False
        return True


def describe_status(status: int) -> str:
    return f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
