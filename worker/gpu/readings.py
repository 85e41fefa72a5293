"""What is known of one device at one moment, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MIB = 1024**2


class FaultKind(StrEnum):
    """What makes a device unusable until it has been mended."""

    LOST = "lost"
    RESET_REQUIRED = "reset_required"
    ECC = "ecc"
    XID = "xid"
    DRIVER_MISMATCH = "driver_mismatch"
    UNREADABLE = "unreadable"
    SILENT = "silent"  # the driver does not answer: whether the device still works, nobody knows
    CUDA = "cuda"  # an engine's word, not NVML's


@dataclass(frozen=True)
class Fault:
    kind: FaultKind
    text: str


SILENCE = Fault(FaultKind.SILENT, "the driver does not answer")
SILENT_AFTER_S = 10.0


@dataclass(frozen=True)
class Device:
    """A GPU or an instance of one (MIG). ``label`` is NVML's index: "0", or "0.1" for an instance."""

    uuid: str
    label: str
    name: str


@dataclass(frozen=True)
class Process:
    """A program that computes on the device. ``used_bytes`` is None where the driver does not say."""

    pid: int
    used_bytes: int | None


@dataclass(frozen=True)
class Reading:
    """One look at one device. None is what the device does not tell."""

    device: Device
    at: float  # Unix seconds
    total_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None
    utilisation_percent: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    uncorrected_ecc: int | None = None
    processes: tuple[Process, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def failures(self) -> tuple[Fault, ...]:
        """The faults that end work on the device; while the driver is silent, CUDA may go on."""
        return tuple(fault for fault in self.faults if fault.kind is not FaultKind.SILENT)


@dataclass(frozen=True)
class Versions:
    """Of the driver, and of the newest CUDA that it runs."""

    driver: str
    cuda: str


# Bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h) that mean "slower than it could be"; the others are
# idleness and clocks that somebody chose.
_THROTTLES = {
    0x04: "power_cap",
    0x08: "hardware_slowdown",
    0x20: "thermal",
    0x40: "hardware_thermal",
    0x80: "power_brake",
}

# Xids that a program causes, not the device (NVIDIA's "Xid Errors": graphics exception, page fault, reset
# channel, preemptive cleanup, video processor exception, context switch timeout).
_PROGRAMS_XIDS = frozenset({13, 31, 43, 45, 68, 109})


def throttles(bits: int) -> tuple[str, ...]:
    return tuple(name for bit, name in _THROTTLES.items() if bits & bit)


def is_devices_xid(xid: int) -> bool:
    """Whether it tells of the device, and not of a program on it."""
    return xid not in _PROGRAMS_XIDS


def ecc_faults(uncorrected: int | None) -> tuple[Fault, ...]:
    if not uncorrected:
        return ()
    return (Fault(FaultKind.ECC, f"{uncorrected} uncorrectable memory errors since the driver was loaded"),)


def cuda_version(number: int) -> str:
    """NVML's 12080 as "12.8"."""
    return f"{number // 1000}.{number % 1000 // 10}"
