"""What becomes of a step's failure: a warning, or the one error that another attempt may not have."""

from __future__ import annotations

from typing import ClassVar

from worker.engines.oom import is_cuda_error
from worker.engines.whisper_model import is_full
from worker.errors import GpuFault, OutOfGpuMemory


class StepFailed(Exception):
    """A step's part is missing. ``reason`` is for a reader: no transcript, no address, no key."""

    code: ClassVar[str] = "step_failed"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def require_room(exc: BaseException, step: str) -> None:
    """Raise OutOfGpuMemory or GpuFault where that is what ``exc`` says: another day or GPU may help."""
    if isinstance(exc, (OutOfGpuMemory, GpuFault)):
        raise exc
    if type(exc).__name__ == "OutOfMemoryError" or (isinstance(exc, RuntimeError) and is_full(exc)):
        raise OutOfGpuMemory(f"the GPU's memory is full (step {step})") from exc
    if is_cuda_error(exc):
        raise GpuFault(f"the GPU failed (step {step})") from exc


def told(exc: BaseException) -> str:
    """The failure's name and place. Its text may hold what was said, or a key."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_globals.get('__name__', '?')}" if trace is not None else ""
    return f"{type(exc).__name__}{place}"
