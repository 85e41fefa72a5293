"""The stand-in on the path, a scripted Whisper, a language model's server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import faster_whisper  # noqa: F401  for its effect: CTranslate2 looks for torch, not yet the stand-in's
import pytest

import worker.engines.whisper
from tests.engines.mst import meeting
from tests.engines.mst.bench import STANDIN, Bench, ScriptedWhisper, Standin, forget_standin, methods_of
from tests.engines.mst.llm_server import LlmServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OURS = ("HF_TOKEN", "OPENAI_API_KEY", "OPENAI_BASE_URL", "OLLAMA_HOST", "LLM_PROVIDER")


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standin]:
    folder = tmp_path / "standin"
    folder.mkdir()
    made = Standin(folder)
    made.order(names=meeting.NAMES, turns=meeting.TURNS)
    environment = dict(os.environ)
    for name in _OURS:
        os.environ.pop(name, None)
    os.environ |= {"STANDIN_ORDERS": str(made.orders_file), "STANDIN_CALLS": str(made.calls_file)}
    with monkeypatch.context() as patch:
        patch.syspath_prepend(STANDIN)
        yield made
        made.order(at={})  # what hangs ends
        forget_standin()
    os.environ.clear()
    os.environ |= environment


@pytest.fixture
def bench(standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The adapter's surroundings; its Whisper is scripted by replacing WhisperEngine's methods."""
    speech = ScriptedWhisper()
    for name, method in methods_of(speech):
        monkeypatch.setattr(worker.engines.whisper.WhisperEngine, name, method)
    folder = tmp_path / "jobs"
    folder.mkdir()
    return Bench(standin, folder, speech)


@pytest.fixture
def llm() -> Iterator[LlmServer]:
    server = LlmServer().start()
    yield server
    server.stop()
