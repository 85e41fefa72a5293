"""A machine with as many GPUs as a test likes."""

from __future__ import annotations

import ctypes
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.gpu.stub import Gpu, StubMachine, build
from tests.support.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(nvml_library: Path, tmp_path: Path) -> StubMachine:
    """Without a GPU, so far."""
    return StubMachine(nvml_library, tmp_path / "machine")


@pytest.fixture
def here(machine: StubMachine, monkeypatch: pytest.MonkeyPatch) -> StubMachine:
    """The machine, for this very process: nvidia-ml-py finds the library loaded, by its name."""
    ctypes.CDLL(str(machine.library), mode=ctypes.RTLD_GLOBAL)
    monkeypatch.setenv("NVML_STUB_FILE", str(machine.file))
    return machine


@pytest.fixture
def service(tmp_path: Path, machine: StubMachine) -> Iterator[Service]:
    """The service, its processes on the stub machine; its engine is ``simulated`` and claims memory."""
    running = Service(tmp_path, {**machine.environment, "ENGINE": "simulated", "MIN_FREE_BYTES": "0"})
    running.settings["SIMULATED_SCRIPT"] = engine_script(machine)
    yield running
    running.end()


def engine_script(machine: StubMachine, **script: Any) -> str:
    return json.dumps({"speed": 50, "vram_mib": 8000, "vram_at": str(machine.claims), **script})


@pytest.fixture
def gpus() -> Callable[[int], list[Gpu]]:
    return lambda count: [Gpu(f"GPU-{number}") for number in range(count)]
