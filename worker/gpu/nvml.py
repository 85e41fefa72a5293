"""The one place that talks to NVML, through nvidia-ml-py. Never initialises CUDA."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pynvml

from worker.gpu.readings import (
    Device,
    Fault,
    FaultKind,
    Process,
    Reading,
    Versions,
    cuda_version,
    ecc_faults,
    is_devices_xid,
    throttles,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# No driver on this machine, as on any without a GPU.
_ABSENT = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
# What this device, this kind of handle, or this driver, which may be older or newer than the bindings, does
# not tell.
_UNTOLD = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_DEPRECATED,
)
_KINDS = {
    pynvml.NVML_ERROR_GPU_IS_LOST: FaultKind.LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED: FaultKind.RESET_REQUIRED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: FaultKind.DRIVER_MISMATCH,
}


class NoDriver(Exception):
    """There is no NVIDIA driver here."""


class DriverFault(Exception):
    """There is a driver, and it can't be used."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


class Nvml:
    """An open session with the driver. Use it in one thread; ``close`` it.

    What it has once listed it can go on reading: a device that vanishes then reads as lost.
    """

    def __init__(self) -> None:
        """Raises NoDriver, DriverFault."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as exc:
            if exc.value in _ABSENT:
                raise NoDriver(str(exc)) from exc
            raise DriverFault(_fault(exc)) from exc
        self._handles: dict[str, Any] = {}
        self._wholes: dict[str, Any] = {}  # the GPU that a device is, or is an instance of
        self._events: dict[str, Any] = {}
        self.unreachable: dict[str, Fault] = {}  # by index: GPUs that did not answer when last listed

    def close(self) -> None:
        for events in self._events.values():
            _told(pynvml.nvmlEventSetFree, events)
        self._events.clear()
        _told(pynvml.nvmlShutdown)

    def versions(self) -> Versions:
        """Raises DriverFault."""
        try:
            cuda = cuda_version(pynvml.nvmlSystemGetCudaDriverVersion())
            return Versions(str(pynvml.nvmlSystemGetDriverVersion()), cuda)
        except pynvml.NVMLError as exc:
            raise DriverFault(_fault(exc)) from exc

    def devices(self) -> list[Device]:
        """The devices that answer, in NVML's order; of a GPU that is split (MIG), its instances.

        Raises DriverFault, also where there are GPUs and none of them answers.
        """
        self.unreachable = {}
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as exc:
            raise DriverFault(_fault(exc)) from exc
        found = [device for index in range(count) for device in self._of_gpu(index)]
        if not found and self.unreachable:
            raise DriverFault(next(iter(self.unreachable.values())))
        return found

    def read(self, device: Device) -> Reading:
        """A look at a device that was listed. Raises nothing: what goes wrong is a fault of the reading."""
        now = time.time()
        try:
            return self._read(device, now)
        except pynvml.NVMLError as exc:
            return Reading(device, now, faults=(_fault(exc),))

    def xid_faults(self, device: Device) -> tuple[Fault, ...]:
        """Xids of the device since the last call, or since the first; those that programs cause left out."""
        try:
            return tuple(
                Fault(FaultKind.XID, f"the driver reported Xid {xid}")
                for xid in self._new_xids(device)
                if is_devices_xid(xid)
            )
        except pynvml.NVMLError:  # a virtual GPU or a container without events; a lost device reads as such
            return ()

    def _of_gpu(self, index: int) -> Iterator[Device]:
        try:
            whole = pynvml.nvmlDeviceGetHandleByIndex(index)
            if not (_told(pynvml.nvmlDeviceGetMigMode, whole) or [0])[0]:
                yield self._noted(whole, whole, str(index))
                return
            for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(whole)):
                instance = _told(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, whole, number)
                if instance is not None:
                    yield self._noted(instance, whole, f"{index}.{number}")
        except pynvml.NVMLError as exc:
            self.unreachable[str(index)] = _fault(exc)

    def _noted(self, handle: Any, whole: Any, label: str) -> Device:
        device = Device(pynvml.nvmlDeviceGetUUID(handle), label, pynvml.nvmlDeviceGetName(handle))
        self._handles[device.uuid], self._wholes[device.uuid] = handle, whole
        return device

    def _read(self, device: Device, now: float) -> Reading:
        handle, whole = self._handles[device.uuid], self._wholes[device.uuid]
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        utilisation = _told(pynvml.nvmlDeviceGetUtilizationRates, handle)
        ecc = _told(
            pynvml.nvmlDeviceGetTotalEccErrors,
            whole,
            pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            pynvml.NVML_VOLATILE_ECC,
        )
        return Reading(
            device=device,
            at=now,
            total_bytes=memory.total,
            used_bytes=memory.used,
            free_bytes=memory.free,
            utilisation_percent=utilisation.gpu if utilisation is not None else None,
            temperature_c=_temperature(whole),
            power_w=_watts(_told(pynvml.nvmlDeviceGetPowerUsage, whole)),
            power_limit_w=_watts(_told(pynvml.nvmlDeviceGetEnforcedPowerLimit, whole)),
            throttle_reasons=throttles(_told(pynvml.nvmlDeviceGetCurrentClocksEventReasons, whole) or 0),
            uncorrected_ecc=ecc,
            processes=_processes(handle),
            faults=ecc_faults(ecc),
        )

    def _new_xids(self, device: Device) -> Iterator[int]:
        if device.uuid not in self._events:
            events = self._events[device.uuid] = pynvml.nvmlEventSetCreate()
            whole = self._wholes[device.uuid]
            pynvml.nvmlDeviceRegisterEvents(whole, pynvml.nvmlEventTypeXidCriticalError, events)
        while True:
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events[device.uuid], 0)
            except pynvml.NVMLError as exc:
                if exc.value == pynvml.NVML_ERROR_TIMEOUT:
                    return
                raise
            yield int(event.eventData)


def _told(call: Callable[..., Any], *args: Any) -> Any:
    """The call's answer; None where the device does not tell."""
    try:
        return call(*args)
    except pynvml.NVMLError as exc:
        if exc.value in (*_UNTOLD, pynvml.NVML_ERROR_NOT_FOUND):
            return None
        raise


def _temperature(handle: Any) -> int | None:
    """By the function that stays, else by the one that older drivers have."""
    sensor = pynvml.NVML_TEMPERATURE_GPU
    found: int | None = _told(pynvml.nvmlDeviceGetTemperatureV, handle, sensor)
    if found is None:
        found = _told(pynvml.nvmlDeviceGetTemperature, handle, sensor)
    return found


def _processes(handle: Any) -> tuple[Process, ...]:
    found = _told(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    return tuple(Process(one.pid, one.usedGpuMemory) for one in found)


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _fault(exc: Any) -> Fault:
    return Fault(_KINDS.get(exc.value, FaultKind.UNREADABLE), f"NVML says: {exc}")
