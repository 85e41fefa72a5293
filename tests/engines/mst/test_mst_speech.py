"""The adapter with our real Whisper on real speech; the other models are the stand-in's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engines.mst.bench import Bench, ScriptedWhisper, Standin
from tests.engines.spoken import DATA, word_errors
from worker.engines.protocol import Options

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engines.mst.llm_server import LlmServer


@pytest.fixture
def real_speech(standin: Standin, tmp_path: Path) -> Bench:
    """Without the scripted Whisper."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    return Bench(standin, folder, ScriptedWhisper())


def test_the_meeting(real_speech: Bench, llm: LlmServer) -> None:
    run = real_speech.run(
        openai_base_url=llm.openai_url,
        whisper_model="tiny.en",
        recording=DATA / "meeting.wav",
        options=Options(max_topics=2),
    )
    expected = (DATA / "meeting.txt").read_text()
    assert word_errors(expected, " ".join(run.texts)) <= 0.05
    assert run.transcript.language == "en"
    assert "tiny.en" in run.transcript.model
    assert not run.transcript.partial
    fractions = [report.fraction for report in run.reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
