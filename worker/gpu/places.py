"""Where this machine's workers compute: which devices, under which names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from worker.gpu.readings import Device


def visible(devices: Sequence[Device], chosen: str | None) -> list[Device]:
    """Those that CUDA_VISIBLE_DEVICES names, by index or by the beginning of a UUID; all where it is not set.

    As with CUDA, what stands behind a name that fits none is not seen.
    """
    if chosen is None:
        return list(devices)
    seen: list[Device] = []
    for name in (part.strip() for part in chosen.split(",")):
        fitting = [one for one in devices if name and (one.label == name or one.uuid.startswith(name))]
        if not fitting:
            break
        seen += fitting
    return seen


def worker_names(device: Device, count: int, host: str, taken: Collection[str]) -> list[str]:
    """Names for ``count`` workers on a device: gpu0@host, gpu0-2@host, ...; none of them ``taken``."""
    label = f"gpu{device.label}"
    if f"{label}@{host}" in taken:  # the driver counts anew, and calls another device so
        label = f"{label}-{device.uuid[-6:]}"
    return [f"{label}{f'-{number}' if number > 1 else ''}@{host}" for number in range(1, count + 1)]
