"""Names of engines, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from worker.engines.registry import create, known
from worker.errors import EngineUnavailable
from worker.settings import Settings

SETTINGS = Settings(_env_file=None, device="cpu")  # type: ignore[call-arg]  pydantic-settings' own


def test_every_known_name_makes_its_engine() -> None:
    assert known() == ["mst", "simulated", "whisper"]
    assert [create(name, SETTINGS).name for name in known()] == known()


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(EngineUnavailable, match=r"'wisper'.*ENGINE.*mst, simulated, whisper"):
        create("wisper", SETTINGS)


def test_importing_names_and_protocol_loads_no_library() -> None:
    heavy = [
        "numpy",
        "av",
        "ctranslate2",
        "faster_whisper",
        "onnxruntime",
        "torch",
        "worker.engines.simulated",
    ]
    code = (
        "import sys, worker.engines.protocol, worker.engines.registry, worker.sources.wav; "
        "import worker.engines.mst; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
