"""What to do when the GPU's memory is full: smaller batches first, then what the operator chose.

And how a failing GPU is told from a failing engine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from worker.engines.protocol import EngineWarning
from worker.errors import EngineFailed, OutOfGpuMemory
from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.engines.protocol import Engine, Transcript

log = get_logger(__name__)

Policy = Literal["retry", "cpu", "fail"]
_CUDA_WORDS = ("CUDA error", "CUDA failed", "cuBLAS failed", "cuDNN failed", "CUDNN_STATUS", "CUBLAS_STATUS")
RAN_ON_CPU = EngineWarning("ran_on_cpu", "transcribe", "the GPU's memory was full; the CPU went on")


def is_cuda_error(exc: BaseException) -> bool:
    """Whether CUDA failed, in the words of PyTorch and CTranslate2; a full memory is told apart before."""
    words = str(exc)
    return isinstance(exc, RuntimeError) and any(name in words for name in _CUDA_WORDS)


def with_room(
    engine: Engine, policy: Policy, run: Callable[[], Transcript], discard: Callable[[], None]
) -> Transcript:
    """What ``run()`` gives; where it finds the GPU full, once more with smaller batches, then by policy.

    A second run is cheap where the first kept checkpoints. After "cpu" the transcript says so by RAN_ON_CPU,
    and ``discard`` has been called, however that run ended: the engine stays on the CPU.
    Raises OutOfGpuMemory ("retry"), EngineFailed ("fail").
    """
    try:
        try:
            return run()
        except OutOfGpuMemory:
            if not engine.relieve():
                raise
        log.warning("gpu_memory_full", then="smaller batches")
        return run()
    except OutOfGpuMemory as exc:
        log.warning("gpu_memory_full", then=policy)
        if policy == "retry":
            raise
        if policy == "fail":
            raise EngineFailed("the GPU's memory is too small for this job (ON_GPU_OOM=fail)") from exc
    try:
        engine.move_to_cpu()
        transcript = run()
    finally:
        discard()
    return replace(transcript, warnings=(*transcript.warnings, RAN_ON_CPU))
