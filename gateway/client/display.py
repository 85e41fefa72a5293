"""What the command shows on stderr while it works: bars on a terminal, a line for each event elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gateway.client.models import State

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from gateway.client.models import JobStatus
    from gateway.client.retries import Retry


class Screen:
    def __init__(self, *, has_bars: bool) -> None:
        self._has_bars = has_bars
        self._bars: Progress | None = None
        self._rows: dict[str, TaskID] = {}
        self._last = ""

    def upload(self, sent_bytes: int, total_bytes: int | None) -> None:
        if self._has_bars:
            self._show("upload", f"upload {sent_bytes / 1e6:,.1f} MB", sent_bytes, total_bytes)

    def job(self, status: JobStatus) -> None:
        if self._has_bars:
            # A waiting job's bar runs to and fro: nothing of it is done.
            total = None if status.status is State.PENDING else 1.0
            self._show("job", describe(status), fraction(status), total)
        elif status.status != self._last:
            self._last = status.status
            self.say(describe(status))

    def retry(self, retry: Retry) -> None:
        self.say(f"{retry.reason}; trying again in {retry.after_s:.1f} s")

    def say(self, text: str) -> None:
        """A line, without what would steer the terminal: the text may be a server's."""
        line = "".join(character if character.isprintable() else " " for character in text)
        if self._bars is not None:
            self._bars.console.print(line, markup=False, highlight=False)
        else:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Leave the terminal free. Safe to repeat; the next event draws again."""
        if self._bars is not None:
            self._bars.stop()
        self._bars, self._rows = None, {}

    def _show(self, row: str, text: str, completed: float, total: float | None) -> None:
        bars = self._bars or self._open()
        if row not in self._rows:
            self._rows[row] = bars.add_task(text, total=total)
        bars.update(self._rows[row], description=text, completed=completed, total=total)

    def _open(self) -> Progress:
        from rich.console import Console  # noqa: PLC0415  rich is loaded where there is a terminal for it
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        text = TextColumn("{task.description:<40}", markup=False)
        self._bars = Progress(text, BarColumn(), TimeElapsedColumn(), console=Console(stderr=True))
        self._bars.start()
        return self._bars


def describe(status: JobStatus) -> str:
    """Pure."""
    if status.status is State.PENDING:
        place = "" if status.position is None else f", number {status.position} in the queue"
        return f"waiting{place}{soon(status.eta_s)}"
    if status.progress is not None:
        step = status.progress
        return f"{step.step} ({step.number} of {step.of}){soon(status.eta_s)}"
    return str(status.status)


def soon(eta_s: float | None) -> str:
    """What is left, as a person says it."""
    if eta_s is None:
        return ""
    minutes, seconds = divmod(round(eta_s), 60)
    return f", about {minutes} min left" if minutes else f", about {seconds} s left"


def fraction(status: JobStatus) -> float:
    if status.status.is_final:
        return 1.0
    return status.progress.fraction if status.progress else 0.0
