"""How much of a GPU's memory each engine needs, in all: models, working memory, CUDA's own. Light.

Whisper's figures are published ones (SYSTRAN/faster-whisper: large-v2 in float16 takes 4.5 GB, and 6.1 GB in
batches of 8; distil-large-v3 2.4 GB) with room for batches of 16. mst's are those beside its small models and
the 9.5 GB of pyannote.audio 4 at its peak (pyannote-audio #1963). GPU_NEED_MIB takes their place.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from worker.engines.mst.config import NO_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.settings import Settings

MIB = 1024**2
_FIXED_MIB = 2048  # CUDA's context and a batch's working memory, beside weights in float16
_WHISPER_MIB = {"tiny": 1024, "base": 1024, "small": 2048, "medium": 5120, "large": 8192, "turbo": 5120}
_DISTIL_MIB = 5120
_SMALL_MODELS_MIB = 2048  # mst's GLiNER, SentenceTransformer and SetFit
_DIARIZATION_MIB = 9728


def need_bytes(engine: str, settings: Settings) -> int:
    """What a device must have free before ``engine`` is loaded there. Raises EngineUnavailable."""
    return (settings.gpu_need_mib or _NEEDS[engine](settings)) * MIB


def _whisper(settings: Settings) -> int:
    model = settings.whisper_model or "tiny"
    weights = Path(model).expanduser() / "model.bin"
    if weights.is_file():
        return weights.stat().st_size // MIB + _FIXED_MIB
    if "distil" in model:
        return _DISTIL_MIB
    sizes = [mib for name, mib in _WHISPER_MIB.items() if name in model]
    return min(sizes) if sizes else max(_WHISPER_MIB.values())  # "large-v3-turbo" is a turbo


def _simulated(settings: Settings) -> int:
    from worker.engines.simulated import SimulatedEngine  # noqa: PLC0415  only when it is chosen

    return SimulatedEngine.from_script(settings.simulated_script).script.vram_mib


def _mst(settings: Settings) -> int:
    diarization = 0 if settings.diarization_model == NO_MODEL else _DIARIZATION_MIB
    return _whisper(settings) + _SMALL_MODELS_MIB + diarization


_NEEDS: dict[str, Callable[[Settings], int]] = {"mst": _mst, "whisper": _whisper, "simulated": _simulated}
