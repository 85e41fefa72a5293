"""A question to the driver, which may take long to answer, or never do."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
WAIT_S = 1.0


class Unanswered(Exception):
    """The question was put ``for_s`` seconds ago."""

    def __init__(self, for_s: float) -> None:
        super().__init__(for_s)
        self.for_s = for_s


class Question(Generic[T]):
    """Puts one question again and again, and waits for each answer ``wait_s`` at most.

    A thread that stands still inside the driver can't be ended: each question is put in a thread of its own,
    for which nobody waits at the process's end, and not put again before it has been answered.
    """

    def __init__(self, ask: Callable[[], T], wait_s: float = WAIT_S) -> None:
        self._ask = ask
        self._wait_s = wait_s
        self._put_at = 0.0
        self._open: Future[T] | None = None

    @property
    def is_open(self) -> bool:
        return self._open is not None and not self._open.done()

    def answer(self) -> T:
        """The answer, be it a late one to the question put before, or what it raises; or Unanswered."""
        found = self._open or self._put()
        wait([found], self._wait_s)
        if not found.done():
            self._open = found
            raise Unanswered(time.monotonic() - self._put_at)
        self._open = None
        return found.result()

    def _put(self) -> Future[T]:
        self._put_at = time.monotonic()
        found: Future[T] = Future()
        threading.Thread(target=self._run, args=(found,), name="driver", daemon=True).start()
        return found

    def _run(self, found: Future[T]) -> None:
        try:
            found.set_result(self._ask())
        except Exception as exc:  # noqa: BLE001  a thread's border: whoever asks is told
            found.set_exception(exc)
