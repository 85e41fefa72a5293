"""The worker's own watch over its device and its child: whether it may read, and when it must end."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery.signals import worker_ready, worker_shutting_down

from worker.gpu.admission import FRESH_S, ON_CPU, Admission, admit
from worker.gpu.readings import Fault, FaultKind
from worker.gpu.report import REPORT_EVERY_S, State
from worker.logs import get_logger
from worker.patience import AWAY
from worker.readiness import Load
from worker.streams.requests import is_at_work

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.gpu.admission import Limits
    from worker.gpu.readings import Reading
    from worker.gpu.renewal import Renewal
    from worker.gpu.sight import Sight
    from worker.gpu.turn import Turn
    from worker.readiness import Child

log = get_logger(__name__)

LOOK_EVERY_S = 1.0
ENDS_WITHIN_S = 10.0
OTHERS_TURN = Admission(admitted=False, reason="another worker of its device loads its model first")


@dataclass(frozen=True)
class View:
    """What a report is made of."""

    state: State
    reason: str
    admission: Admission
    reading: Reading | None


class Watch:
    """Looks every LOOK_EVERY_S, in a thread of its own, from the time the worker is ready to its end.

    A fault that NVML sees ends the worker at once, and its job goes back uncounted. One that only the child
    saw (CUDA failed) ends it after the job has gone back by the child's own word, counted: the recording may
    be why, and would fault every device in turn. A driver that does not answer ends nothing: the gate closes,
    and what runs goes on for as long as CUDA does.

    Args:
        sight: None on the CPU.
        need_bytes: What the engine needs of the device.
        publish: Called every REPORT_EVERY_S; may raise one of AWAY.
        turn: Among the workers of the device.
        hindrance: What else keeps the worker from taking jobs for now, if so; never blocks.
    """

    def __init__(
        self,
        *,
        sight: Sight | None,
        need_bytes: int,
        limits: Limits,
        child: Child,
        renewal: Renewal,
        publish: Callable[[View], None],
        turn: Turn | None = None,
        hindrance: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._sight = sight
        self._turn = turn
        self._has_turn = True
        self._need_bytes = need_bytes
        self._limits = limits
        self._child = child
        self._renewal = renewal
        self._publish = publish
        self._hindrance = hindrance
        self._reading: Reading | None = None
        self._admission = ON_CPU
        self._draining = False
        self._ended = threading.Event()
        self._published_at = float("-inf")
        self._thread: threading.Thread | None = None
        self.fault: Fault | None = None

    def install(self) -> None:
        """For the parent, before Celery starts: by the first look the first child loads its engine or not."""
        self._look()
        self._child.let_preload(self._admission.admitted and self._has_turn)
        worker_ready.connect(self._start, weak=False)
        worker_shutting_down.connect(self._drain, weak=False)

    def may_read(self) -> bool:
        """The gate: never blocks."""
        return (
            self.fault is None
            and self._child.is_up()
            and not self._renewal.is_on
            and self._admission.admitted
            and self._has_turn
            and self._is_fresh()
            and self._hindrance() is None
        )

    def end(self) -> None:
        """Stop looking; after this nothing is published, unless Redis has not answered for a while."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(ENDS_WITHIN_S)
            if self._thread.is_alive():
                return
        if self._turn is not None:
            self._turn.leave()
        if self._sight is not None:
            self._sight.close()

    def view(self) -> View:
        state, reason = self._state()
        return View(state, reason, self._judged(), self._reading)

    def _start(self, **_: object) -> None:
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _drain(self, **_: object) -> None:
        self._draining = True

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._tick()
            except AWAY as exc:
                log.warning("report_missed", error=type(exc).__name__)
            except Exception:  # the loop's top: without this thread the gate would close for good
                log.exception("watch_failed")
            self._ended.wait(LOOK_EVERY_S)

    def _tick(self) -> None:
        self._look()
        self._end_on_fault()
        busy = is_at_work()
        if not self._draining:
            self._renewal.look(self._child, time.monotonic(), busy=busy)
        if time.monotonic() - self._published_at >= REPORT_EVERY_S:
            self._published_at = time.monotonic()
            self._publish(self.view())

    def _look(self) -> None:
        if self._sight is None:
            return
        self._reading = self._sight.look()
        before = self._admission
        self._admission = admit(
            self._reading, self._need_bytes, self._limits, loaded=self._child.is_loaded(), now=time.time()
        )
        if before.admitted != self._admission.admitted:
            log.info("admission_changed", admitted=self._admission.admitted, reason=self._admission.reason)
        if self._turn is not None:
            self._has_turn = self._turn.look(
                may_load=self._admission.admitted and not self._draining,
                loaded=self._child.is_loaded(),
                at_work=is_at_work(),
                now=time.monotonic(),
            )

    def _end_on_fault(self) -> None:
        if self.fault is not None:
            return
        if self._reading is not None and self._reading.failures:
            self._end_with(self._reading.failures[0], signal.SIGQUIT)
        elif self._child.cuda_failure is not None and not is_at_work():
            self._end_with(Fault(FaultKind.CUDA, self._child.cuda_failure), signal.SIGTERM)

    def _end_with(self, fault: Fault, signum: signal.Signals) -> None:
        self.fault = fault
        log.error("device_faulty", kind=fault.kind, reason=fault.text)
        os.kill(os.getpid(), signum)

    def _is_fresh(self) -> bool:
        return self._reading is None or time.time() - self._reading.at < FRESH_S

    def _state(self) -> tuple[State, str]:
        failure = self.fault.text if self.fault is not None else self._child.cuda_failure
        if failure is not None:
            return State.FAULTY, failure
        if self._reading is not None and self._reading.faults:  # silence, or what ends it in a moment
            return State.FAULTY, self._reading.faults[0].text
        if self._draining:
            return State.DRAINING, "it takes no new job, and ends"
        if is_at_work():
            return State.BUSY, "it works on a job"
        return self._idle_state()

    def _idle_state(self) -> tuple[State, str]:
        if self._renewal.is_on or not self._child.is_up():
            return State.LOADING, _loading(self._child.state)
        admission = self._judged()
        fine = admission.admitted or admission is OTHERS_TURN
        return State.READY if fine else State.REFUSING, admission.reason

    def _judged(self) -> Admission:
        hindrance = self._hindrance()
        if hindrance is not None:
            return Admission(admitted=False, reason=hindrance)
        return self._admission if self._has_turn else OTHERS_TURN


def _loading(state: Load) -> str:
    return "a new child takes the place of the old" if state is Load.SPENT else "its child loads the engine"
