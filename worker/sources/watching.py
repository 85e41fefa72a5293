"""Waiting that can be called off: no wait in a fetch is longer than a slice.

Between slices the job's owner is asked whether to go on, and the clock whether time is up.
"""

from __future__ import annotations

import queue
import select
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from worker.errors import SourceUnavailable

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator, Iterator

T = TypeVar("T")
SLICE_S = 0.25


class Overdue(Exception):
    """Nothing came in the time that one wait may take."""


@dataclass
class Watch:
    """``check`` raises a BaseException to cancel; ``total_s`` counts from here."""

    check: Callable[[], None]
    total_s: float
    _checked: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        self._ends = time.monotonic() + self.total_s

    @property
    def left_s(self) -> float:
        return self._ends - time.monotonic()

    def look(self) -> None:
        """Raises what ``check`` raises, or SourceUnavailable once the time is up. Cheap: call it often."""
        now = time.monotonic()
        if now - self._checked >= SLICE_S:
            self._checked = now
            self.check()
        if now > self._ends:
            raise SourceUnavailable(
                f"the recording did not arrive within {self.total_s:g} s: try again, or use a faster server"
            )

    def sleep(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        self.look()
        while (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, SLICE_S))
            self.look()

    def wait_for(self, sock: socket.socket, events: int, timeout_s: float) -> None:
        """Wait until poll(2) reports one of ``events``, an error or a hang-up; raises Overdue."""
        poller = select.poll()
        poller.register(sock, events)
        ends = time.monotonic() + timeout_s
        while True:
            self.look()
            left = ends - time.monotonic()
            if left <= 0:
                raise Overdue
            if poller.poll(min(left, SLICE_S) * 1000):
                return

    def call(self, blocking: Callable[[], T], timeout_s: float) -> T:
        """The result of a call that can't be interrupted, made in a thread of its own; raises Overdue.

        A call that is given up runs on until it ends by itself.
        """
        return next(self.iterate(lambda: iter([blocking()]), timeout_s))

    def iterate(self, blocking: Callable[[], Iterator[T]], timeout_s: float) -> Generator[T]:
        """What a blocking iterator yields, read in a thread of its own; raises Overdue.

        ``timeout_s`` is for each item. At most two items wait to be taken. Once this generator is closed,
        the thread ends at its next item.
        """
        items: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(maxsize=1)
        closed = threading.Event()
        threading.Thread(target=_pump, args=(blocking, items, closed), daemon=True).start()
        try:
            while (item := self._next(items, timeout_s)) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item[0]
        finally:
            closed.set()

    def _next(self, items: queue.Queue[T], timeout_s: float) -> T:
        ends = time.monotonic() + timeout_s
        while True:
            self.look()
            left = ends - time.monotonic()
            if left <= 0:
                raise Overdue
            try:
                return items.get(timeout=min(left, SLICE_S))
            except queue.Empty:
                continue


def _pump(
    blocking: Callable[[], Iterator[T]],
    items: queue.Queue[tuple[T] | BaseException | None],
    closed: threading.Event,
) -> None:
    try:
        for item in blocking():
            if not _put(items, (item,), closed):
                return
    except BaseException as exc:  # noqa: BLE001  the other thread raises it
        _put(items, exc, closed)
    else:
        _put(items, None, closed)


def _put(items: queue.Queue[T], item: T, closed: threading.Event) -> bool:
    while not closed.is_set():
        try:
            items.put(item, timeout=SLICE_S)
        except queue.Full:
            continue
        return True
    return False
