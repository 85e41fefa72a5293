"""The thread that a job's steps run in, so that a job can be cancelled while a model does not answer.

One at a time: a step that a cancelled job left behind must end before the next job's first one begins.
"""

from __future__ import annotations

import contextlib
import contextvars
import io
import queue
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from worker.engines.mst.failures import StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
_PULSE_S = 0.1
GRACE_S = 20.0  # several looks of worker.guard


class StepStopped(BaseException):
    """Ends the step's thread. A BaseException: mst's ``except Exception`` must not swallow it."""


class Lane:
    """``run`` and ``wait_until_free`` are for one thread; ``tell`` is for the step's.

    Args:
        grace_s: How long a cancelled step is waited for. The worker's guard kills the child of a cancelled
            job meanwhile, as it does where any engine hangs: then nothing is left behind.
    """

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.grace_s = grace_s
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._told: queue.SimpleQueue[float] = queue.SimpleQueue()

    def run(self, step: Callable[[], T], check: Callable[[], None], progress: Callable[[float], None]) -> T:
        """What ``step()`` returns or raises, computed in a thread that keeps its words to itself.

        ``check`` is called several times a second meanwhile, ``progress`` with each fraction that the step
        ``tell``s. What they raise passes through; the step ends by itself, the next time it tells.
        """
        self.wait_until_free(check)
        self._stopped, self._told = threading.Event(), queue.SimpleQueue()
        outcome: list[Any] = []  # what it made, and its error
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run,
            args=(_hold, step, outcome, threading.get_ident()),
            name="mst-step",
            daemon=True,
        )
        self._thread.start()
        try:
            self._watch(check, progress)
        except BaseException:
            self._stopped.set()
            self._thread.join(self.grace_s)
            raise
        made: T = outcome[0]
        error = outcome[1]
        outcome.clear()
        try:
            if error is not None:
                raise error
            return made
        finally:
            del error  # its traceback holds this frame, and the step's: what it computed would live on

    def wait_until_free(self, check: Callable[[], None]) -> None:
        while self._thread is not None and self._thread.is_alive():
            check()
            self._thread.join(_PULSE_S)

    def tell(self, fraction: float) -> None:
        """How far the step is, from 0 to 1. Raises StepStopped where nobody waits for it any more."""
        if self._stopped.is_set():
            raise StepStopped
        self._told.put(fraction)

    def _watch(self, check: Callable[[], None], progress: Callable[[float], None]) -> None:
        assert self._thread is not None  # set by run
        while self._thread.is_alive():
            self._thread.join(_PULSE_S)
            check()
            self._pass_on(progress)
        self._pass_on(progress)

    def _pass_on(self, progress: Callable[[float], None]) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                progress(self._told.get_nowait())


def _hold(step: Callable[[], object], outcome: list[Any], waiting: int) -> None:
    made, error = None, None
    try:
        with quiet(waiting):
            made = step()
    except (Exception, StepStopped) as exc:  # noqa: BLE001  raised again by who waits
        error = exc
    except BaseException as exc:  # noqa: BLE001  so do libraries in Rust give up; not to end the job by it
        error = StepFailed(f"a library gave up: {type(exc).__name__}")
    outcome.extend((made, error))
    del error


@contextlib.contextmanager
def quiet(but: int = 0) -> Iterator[None]:
    """What threads print goes nowhere, but for one's: mst prints headlines, and by tracebacks the transcript.

    Logs are not concerned: their handler has the stream itself.
    """
    stdout, stderr = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Muted(stdout, but), _Muted(stderr, but)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = stdout, stderr


class _Muted(io.TextIOBase):
    """Another stream, for one thread's words alone."""

    def __init__(self, stream: TextIO, thread: int) -> None:
        super().__init__()
        self._stream = stream
        self._thread = thread

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return self._stream.write(text) if threading.get_ident() == self._thread else len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding
