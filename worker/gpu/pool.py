"""The pool: one worker process for each device of this machine, for as long as the device is there.

The pool itself reads no queue and loads no engine. Its workers die with it, however it dies.
"""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from worker.gpu.nvml import DriverFault, NoDriver, Nvml
from worker.gpu.places import visible, worker_names
from worker.gpu.question import Question, Unanswered
from worker.gpu.readings import SILENCE, SILENT_AFTER_S, Fault, FaultKind, Reading
from worker.gpu.report import REPORT_EVERY_S, State, WorkerReport, describe, drop_report, publish_report
from worker.gpu.slot import Obstacle, Slot
from worker.logs import get_logger
from worker.processes import REFUSED_EXIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    import redis

    from worker.gpu.readings import Device

log = get_logger(__name__)

LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Around:
    """The chosen devices that answer, and why GPUs, by their index, do not."""

    readings: Sequence[Reading] = ()
    unreachable: Mapping[str, Fault] = field(default_factory=dict)

    def of(self, device: Device) -> Reading | None:
        """None: the driver does not list it."""
        found = next((one for one in self.readings if one.device.uuid == device.uuid), None)
        fault = self.unreachable.get(device.label.partition(".")[0])
        if found is None and fault is not None:
            return Reading(device, time.time(), faults=(fault,))
        return found


def look_around(chosen: str | None) -> Around:
    """In a session of its own, since one that was opened before a device fell off the bus does not see it
    return. Raises NoDriver, DriverFault.
    """
    nvml = Nvml()
    try:
        readings = [nvml.read(device) for device in visible(nvml.devices(), chosen)]
        return Around(readings, nvml.unreachable)
    finally:
        nvml.close()


class Pool:
    """Supervises the workers of this machine until it is told to stop.

    Args:
        chosen: CUDA_VISIBLE_DEVICES as the operator set it.
        client: Where it reports devices that have no worker; may be away.
    """

    def __init__(self, host: str, jobs_per_gpu: int, chosen: str | None, client: redis.Redis) -> None:
        self._host = host
        self._jobs_per_gpu = jobs_per_gpu
        self._chooses = chosen is not None
        self._question = Question(lambda: look_around(chosen))
        self._client = client
        self._slots: list[Slot] = []
        self._around = Around()
        self._driver_fault: Fault | None = None
        self._woken = threading.Event()
        self._orders: list[signal.Signals] = []
        self._reported_at = float("-inf")

    def run(self) -> int:
        """Until SIGTERM or SIGINT (the workers drain), or SIGQUIT (their jobs go back at once).

        REFUSED_EXIT where every worker has refused to work: a bad setting, not a bad device.
        """
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(signum, self._note)
        while not self._orders and not self._all_refused():
            self._tend_safely()
            self._woken.wait(LOOK_EVERY_S)
        self._stop()
        return 0 if self._orders else REFUSED_EXIT

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        again = signal.SIGINT in self._orders
        self._orders.append(signal.SIGQUIT if again and signum == signal.SIGINT else signal.Signals(signum))
        self._woken.set()

    def _tend_safely(self) -> None:
        try:
            self._tend()
        except Exception:  # the loop's top: with the pool its workers and their jobs would die
            log.exception("pool_failed")

    def _tend(self) -> None:
        around = self._look()
        for reading in around.readings:
            self._admit(reading)
        for slot in self._slots:
            slot.tend(around.of(slot.device), time.monotonic())
        if time.monotonic() - self._reported_at >= REPORT_EVERY_S:
            self._reported_at = time.monotonic()
            self._report(around)

    def _look(self) -> Around:
        """What is to be seen now, or was a moment ago."""
        before, self._driver_fault = self._driver_fault, None
        try:
            self._around = self._question.answer()
        except Unanswered as exc:
            self._driver_fault = before if exc.for_s < SILENT_AFTER_S else SILENCE
        except DriverFault as exc:
            self._driver_fault = exc.fault
        except NoDriver as exc:  # there was one when the pool began
            self._driver_fault = Fault(FaultKind.UNREADABLE, f"the driver is gone: {exc}")
        if self._driver_fault is None:
            return self._around
        if before != self._driver_fault:
            log.error("driver_unusable", reason=self._driver_fault.text)
        # Not the devices' fault, but theirs to bear.
        faults = (self._driver_fault,)
        return Around([Reading(slot.device, time.time(), faults=faults) for slot in self._slots])

    def _admit(self, reading: Reading) -> None:
        device = reading.device
        if any(slot.device.uuid == device.uuid for slot in self._slots):
            return
        taken = {slot.name for slot in self._slots}
        names = worker_names(device, self._jobs_per_gpu, self._host, taken)
        self._slots += [Slot(name, device) for name in names]
        log.info("device_found", device=device.uuid, name=device.name, workers=names)

    def _all_refused(self) -> bool:
        return bool(self._slots) and all(slot.was_refused and not slot.runs for slot in self._slots)

    def _report(self, around: Around) -> None:
        """On behalf of devices without a worker; those with one speak for themselves."""
        try:
            for slot in self._slots:
                if not slot.runs and slot.obstacle is not None:
                    reading = around.of(slot.device) or Reading(slot.device, time.time())
                    publish_report(self._client, report_of(slot.name, slot.obstacle, reading))
            for name, fault in self._nameless(around).items():
                publish_report(self._client, report_of(name, Obstacle(State.FAULTY, fault.text), None))
            self._report_driver()
        except RedisError as exc:  # whatever it is, no worker may die with the pool for a report's sake
            log.warning("report_missed", error=type(exc).__name__)

    def _nameless(self, around: Around) -> dict[str, Fault]:
        """GPUs that have not answered since the pool began, under the names that their workers would have."""
        if self._chooses:  # whether they are among the chosen, nobody knows
            return {}
        known = {slot.device.label.partition(".")[0] for slot in self._slots}
        lost = {index: fault for index, fault in around.unreachable.items() if index not in known}
        return {f"gpu{index}@{self._host}": fault for index, fault in lost.items()}

    def _report_driver(self) -> None:
        name = f"gpu@{self._host}"
        if self._driver_fault is not None and not self._slots:
            told = Obstacle(State.FAULTY, self._driver_fault.text)
            publish_report(self._client, report_of(name, told, None))
        else:
            drop_report(self._client, name)

    def _stop(self) -> None:
        passed_on = 0
        while any(slot.runs for slot in self._slots):
            for order in self._orders[passed_on:]:
                passed_on += 1
                self._pass_on(signal.SIGTERM if order == signal.SIGINT else order)
            self._woken.clear()
            self._woken.wait(0.1)
        try:
            for name in (*(slot.name for slot in self._slots), *self._nameless(self._around)):
                drop_report(self._client, name)
        except RedisError as exc:  # whatever it is, no worker may die with the pool for a report's sake
            log.warning("report_missed", error=type(exc).__name__)

    def _pass_on(self, order: signal.Signals) -> None:
        log.info("pool_stopping", signal=order.name, workers=sum(slot.runs for slot in self._slots))
        for slot in self._slots:
            slot.signal(order)


def report_of(name: str, obstacle: Obstacle, reading: Reading | None) -> WorkerReport:
    device = describe(reading, None, ours_bytes=0) if reading is not None else None
    return WorkerReport(
        worker=name,
        at=time.time(),
        state=obstacle.state,
        reason=obstacle.reason,
        admitted=False,
        device=device,
    )
