"""May this worker take a job now? A pure function of what is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.gpu.readings import MIB

if TYPE_CHECKING:
    from worker.gpu.readings import Reading
    from worker.settings import Settings

NO_LIMIT_PERCENT = 100
FRESH_S = 10.0  # an older reading says nothing: a driver in trouble answers slowly, or not at all


@dataclass(frozen=True)
class Limits:
    """What a device must keep below to be given a job."""

    temperature_c: int
    utilisation_percent: int

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(settings.gpu_max_temperature_c, settings.gpu_max_utilisation)


@dataclass(frozen=True)
class Admission:
    admitted: bool
    reason: str


ON_CPU = Admission(admitted=True, reason="computes on the CPU")


def admit(reading: Reading, need_bytes: int, limits: Limits, *, loaded: bool, now: float) -> Admission:
    """Whether the device can take a job of an engine that needs ``need_bytes`` in all.

    Args:
        loaded: The engine's models are in our child already, so that what it needs is among what is used.
    """
    refusal = (
        _faulty(reading)
        or _stale(reading, now)
        or _hot(reading, limits)
        or _busy(reading, limits)
        or (None if loaded else _full(reading, need_bytes))
    )
    if refusal:
        return Admission(admitted=False, reason=refusal)
    return Admission(admitted=True, reason="the model is loaded" if loaded else "there is room for the model")


def _faulty(reading: Reading) -> str | None:
    return "; ".join(fault.text for fault in reading.faults) or None


def _stale(reading: Reading, now: float) -> str | None:
    age_s = now - reading.at
    return f"the driver has not answered for {age_s:.0f} s" if age_s > FRESH_S else None


def _hot(reading: Reading, limits: Limits) -> str | None:
    found = reading.temperature_c
    if found is None or found < limits.temperature_c:
        return None
    return f"it is {found} °C hot (GPU_MAX_TEMPERATURE_C={limits.temperature_c})"


def _busy(reading: Reading, limits: Limits) -> str | None:
    found, limit = reading.utilisation_percent, limits.utilisation_percent
    if found is None or limit >= NO_LIMIT_PERCENT or found < limit:
        return None
    return f"it is {found} % busy (GPU_MAX_UTILISATION={limit})"


def _full(reading: Reading, need_bytes: int) -> str | None:
    free = reading.free_bytes
    if free is None or free >= need_bytes:
        return None
    return f"{free // MIB} MiB are free, and the engine needs {need_bytes // MIB} MiB"
