"""What keeps a worker from taking jobs, though its device could: looked at again and again from its parent.

Each watch asks in a thread of its own, since a server or a network disk may hold whoever asks. While one of
them finds a problem the worker reads no entry, so no attempt is wasted, and says why in /health/ready.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = get_logger(__name__)

ASK_EVERY_S = 10.0


class HindranceWatch:
    """``ask`` gives a problem's reason, or None; it may block. ``what`` is who is asked, for people."""

    def __init__(self, what: str, ask: Callable[[], str | None], every_s: float = ASK_EVERY_S) -> None:
        self._what = what
        self._ask = ask
        self._every_s = every_s
        self._problem: str | None = f"{what} has not been asked yet"

    def start(self) -> None:
        threading.Thread(target=self._run, name="hindrance", daemon=True).start()

    def problem(self) -> str | None:
        """The reason that was found last; never blocks."""
        return self._problem

    def is_up(self) -> bool:
        return self._problem is None

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._look()
            pause.wait(self._every_s)

    def _look(self) -> None:
        try:
            found = self._ask()
        except Exception as exc:  # the loop's top: without this thread the last answer would hold for ever
            log.exception("hindrance_not_asked", what=self._what)
            found = f"{self._what} could not be asked ({type(exc).__name__})"
        if found != self._problem:
            log.info("hindrance_looked_at", what=self._what, problem=found)
        self._problem = found


def first_problem(watches: Sequence[HindranceWatch]) -> str | None:
    return next((found for watch in watches if (found := watch.problem()) is not None), None)
