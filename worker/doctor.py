"""``python -m worker doctor``: is all here that a worker needs? One line for each, and an exit status."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import redis

from worker.engines.choice import choose
from worker.engines.mst.endpoint import Endpoint
from worker.engines.needs import MIB, need_bytes
from worker.errors import ServiceError
from worker.gpu.admission import Limits, admit
from worker.gpu.nvml import DriverFault, NoDriver, Nvml
from worker.gpu.question import Question, Unanswered
from worker.gpu.readings import SILENCE
from worker.patience import AWAY
from worker.resources import create_cache, create_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.gpu.readings import Reading, Versions
    from worker.settings import Settings

CUDA_LIBRARIES = ("libcublas.so.12", "libcudnn.so.9")  # what CTranslate2 and PyTorch load for CUDA 12
DRIVER_TIMEOUT_S = 20.0
LLM_TIMEOUT_S = 5.0
OLDEST_REDIS = (6, 2)


class Grade(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    grade: Grade
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.grade:<5} {self.what:<10} {self.text}"


def run_doctor(settings: Settings) -> int:
    """Print the findings as they come; 1 where one of them is a failure."""
    failed = False
    for finding in examine(settings):
        failed |= finding.grade is Grade.FAIL
        sys.stdout.write(f"{finding}\n")
        sys.stdout.flush()
    return int(failed)


def examine(settings: Settings) -> Iterator[Finding]:
    yield from examine_gpus(settings)
    yield from _guarded("model", examine_model, settings)
    yield from examine_language_model(settings)
    yield from _guarded("redis", examine_redis, settings)
    yield from _guarded("cache", examine_cache, settings)


def examine_gpus(settings: Settings) -> Iterator[Finding]:
    if settings.device == "cpu":
        yield Finding(Grade.OK, "driver", "not asked for (DEVICE=cpu)")
        return
    try:
        versions, readings = Question(read_all, DRIVER_TIMEOUT_S).answer()
    except NoDriver as exc:
        yield _without_gpu(settings, f"none: {exc}")
        return
    except DriverFault as exc:
        yield Finding(Grade.FAIL, "driver", exc.fault.text)
        return
    except Unanswered:
        yield Finding(Grade.FAIL, "driver", SILENCE.text)
        return
    yield Finding(Grade.OK, "driver", f"{versions.driver}, for CUDA up to {versions.cuda}")
    if not readings:
        yield _without_gpu(settings, "the driver lists no device")
    for reading in readings:
        yield examine_device(reading, settings)
    if readings:
        yield from examine_libraries()


def read_all() -> tuple[Versions, list[Reading]]:
    """Raises NoDriver, DriverFault."""
    nvml = Nvml()
    try:
        return nvml.versions(), [nvml.read(device) for device in nvml.devices()]
    finally:
        nvml.close()


def examine_device(reading: Reading, settings: Settings) -> Finding:
    device = reading.device
    try:
        need = need_bytes(choose(settings).name, settings)
    except ServiceError as exc:
        return Finding(Grade.FAIL, "device", exc.message)
    admission = admit(reading, need, Limits.of(settings), loaded=False, now=time.time())
    size = f"{(reading.free_bytes or 0) // MIB} of {(reading.total_bytes or 0) // MIB} MiB free"
    text = f"{device.label} {device.name} {device.uuid}: {size}; {admission.reason}"
    never = reading.faults or (reading.total_bytes or 0) < need
    grade = Grade.OK if admission.admitted else Grade.FAIL if never else Grade.WARN
    return Finding(grade, "device", text)


def examine_libraries() -> Iterator[Finding]:
    for name in CUDA_LIBRARIES:
        try:
            ctypes.CDLL(name)
        except OSError as exc:
            yield Finding(Grade.FAIL, "library", f"{exc}: see docs/gpu.md, LD_LIBRARY_PATH")
        else:
            yield Finding(Grade.OK, "library", f"{name} can be loaded")


def examine_model(settings: Settings) -> Finding:
    """Load the engine from what lies on this machine, on the CPU: a GPU may be at work."""
    from worker.engines.registry import create  # noqa: PLC0415  only here may this process load an engine

    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's client is imported, below
    choice = choose(settings)
    started = time.monotonic()
    create(choice.name, settings.model_copy(update={"device": "cpu"})).prepare()
    return Finding(Grade.OK, "model", f"{choice.name} loaded in {time.monotonic() - started:.1f} s")


def examine_language_model(settings: Settings) -> Iterator[Finding]:
    endpoint = Endpoint.from_settings(settings)
    if endpoint.provider == "none":
        if settings.llm_required:
            yield Finding(Grade.FAIL, "llm", "LLM_REQUIRED is set, but OLLAMA_HOST or OPENAI_BASE_URL is not")
        return
    problem = endpoint.problem(LLM_TIMEOUT_S)
    grade = Grade.OK if problem is None else Grade.FAIL if settings.llm_required else Grade.WARN
    yield Finding(grade, "llm", problem or f"the language model's server ({endpoint.provider}) answers")


def examine_redis(settings: Settings) -> Finding:
    with create_client(settings, timeout_s=3.0) as client:
        info: Any = client.info()
        version = str(info.get("valkey_version") or info["redis_version"])
        # Managed servers may not show their configuration.
        try:
            policy = _configured(client, "maxmemory-policy")
            fsync = _configured(client, "appendfsync")
        except redis.ResponseError:
            policy = fsync = "not shown"
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        return Finding(Grade.FAIL, "redis", f"version {version} is too old: 6.2 or newer is needed")
    if not int(info.get("aof_enabled", 0)):
        return Finding(Grade.FAIL, "redis", f"{version} keeps no log: set appendonly yes, or jobs get lost")
    if policy not in ("noeviction", "not shown"):
        return Finding(Grade.FAIL, "redis", f"{version} evicts keys: set maxmemory-policy noeviction")
    if fsync not in ("always", "not shown"):
        return Finding(
            Grade.WARN, "redis", f"{version} may lose the last jobs in a power cut: set appendfsync always"
        )
    return Finding(Grade.OK, "redis", f"{version}, appendonly, maxmemory-policy {policy}")


def examine_cache(settings: Settings) -> Finding:
    cache = create_cache(settings)
    settings.cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=settings.cache_dir) as file:
        file.write(b"x")
    if shortage := cache.shortage():
        return Finding(Grade.FAIL, "cache", shortage)
    return Finding(
        Grade.OK, "cache", f"{settings.cache_dir} is writable, {cache.free_bytes() // MIB} MiB free"
    )


def _guarded(what: str, examine_one: Callable[[Settings], Finding], settings: Settings) -> Iterator[Finding]:
    try:
        yield examine_one(settings)
    except ServiceError as exc:
        yield Finding(Grade.FAIL, what, exc.message)
    except AWAY as exc:
        yield Finding(Grade.FAIL, what, f"no answer ({type(exc).__name__}): see REDIS_URL")
    except (redis.RedisError, OSError) as exc:
        yield Finding(
            Grade.FAIL, what, f"{type(exc).__name__}: {getattr(exc, 'strerror', None) or 'no answer'}"
        )


def _without_gpu(settings: Settings, text: str) -> Finding:
    if settings.device == "cuda":
        return Finding(Grade.FAIL, "driver", f"{text}; and DEVICE=cuda wants a GPU")
    return Finding(Grade.WARN, "driver", f"{text}; a worker computes on the CPU (DEVICE=auto)")


def _configured(client: redis.Redis, name: str) -> str:
    found: Any = client.config_get(name)
    return str(found[name])
