"""One device as its worker sees it: a session with the driver that is opened anew when it breaks."""

from __future__ import annotations

import time
from dataclasses import replace

from worker.gpu.nvml import DriverFault, NoDriver, Nvml
from worker.gpu.question import Question, Unanswered
from worker.gpu.readings import SILENCE, SILENT_AFTER_S, Device, Fault, FaultKind, Reading, Versions


class Sight:
    """Looks at the device called ``uuid``. Use it in one thread."""

    def __init__(self, uuid: str) -> None:
        self._device = Device(uuid, "?", "?")
        self._nvml: Nvml | None = None
        self._question = Question(self._look)
        self._last: Reading | None = None
        self.versions: Versions | None = None

    def look(self) -> Reading:
        """What is to be seen now, or was a moment ago; where nothing is, the reading's faults say why.

        Raises nothing, and comes back within a second or so.
        """
        try:
            self._last = self._question.answer()
        except Unanswered as exc:
            if self._last is None or exc.for_s >= SILENT_AFTER_S:
                return self._blind(SILENCE)
        return self._last

    def close(self) -> None:
        """Do nothing where the driver still holds a thread of ours."""
        if self._nvml is not None and not self._question.is_open:
            self._nvml.close()
            self._nvml = None

    def _look(self) -> Reading:
        try:
            nvml = self._session()
        except NoDriver as exc:
            return self._blind(Fault(FaultKind.UNREADABLE, f"the driver is gone: {exc}"))
        except DriverFault as exc:
            return self._blind(exc.fault)
        if self._nvml is None:
            return self._blind(Fault(FaultKind.LOST, "the driver does not list the device"))
        reading = nvml.read(self._device)
        return replace(reading, faults=(*reading.faults, *nvml.xid_faults(self._device)))

    def _session(self) -> Nvml:
        if self._nvml is not None:
            return self._nvml
        nvml = Nvml()
        found = [device for device in nvml.devices() if device.uuid == self._device.uuid]
        if found:
            self._device, self._nvml = found[0], nvml
            self.versions = nvml.versions()
        else:
            nvml.close()
        return nvml

    def _blind(self, fault: Fault) -> Reading:
        return Reading(self._device, time.time(), faults=(fault,))
