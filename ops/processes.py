"""A child process of the local stack: started with its log, restarted with back-off, stopped for sure."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.processes import describe_status, die_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
                preexec_fn=die_with_parent(self.orphan_signal),  # noqa: PLW1509  two system calls
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

    def _signal_and_wait(self, signum: signal.Signals, patience_s: float) -> bool:
        if self._process is None or self._process.poll() is not None:
            return True
        self._process.send_signal(signum)
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            return False
        return True
