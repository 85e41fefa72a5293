"""The stand-in has the defects that the adapter is tested against: what plain mst does, it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.engines.mst import contract_cases, meeting
from tests.engines.mst.bench import STANDIN, Standin

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engines.mst.llm_server import LlmServer


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    made = subprocess.run(
        [sys.executable, contract_cases.__file__],
        env={**os.environ, "PYTHONPATH": str(STANDIN)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(made.stdout)["outcomes"]
    return found


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param("words no nouns", None, id="D1 no name at all"),
        pytest.param("turns one", [], id="D2 the only turn is lost"),
        pytest.param("turns none", {}, id="D2 no turn"),
        pytest.param("turns fails", {}, id="D3 any error"),
        pytest.param("whisper fails", None, id="D4 any error"),
        pytest.param("names batch fails", {}, id="1.7 a batch fails"),
        pytest.param("topics 3 2", "TypeError: object of type 'NoneType' has no len()", id="D16"),
        pytest.param("embeddings down", "KeyError: 'embedding'", id="D17"),
        pytest.param("embeddings in a running loop", "KeyError: 'embedding'", id="D17 running loop"),
        pytest.param(
            "equal losses", "TypeError: '<' not supported between instances of '", id="D18 heap tie"
        ),
        pytest.param("cache without a path", [2, []], id="an empty path keeps nothing"),
    ],
)
def test_a_defect_is_there(outcomes: dict[str, Any], case: str, expected: object) -> None:
    assert outcomes[case] == expected


def test_words_are_glued_and_sentences_collapse(outcomes: dict[str, Any]) -> None:
    """D6, D8."""
    assert outcomes["sentences glued"][0]["transcript"] == "Dig a ditch?No, said Ann."
    assert any(row["start"] == row["end"] for row in outcomes["sentences shared"])


def test_correction_eats_punctuation(outcomes: dict[str, Any]) -> None:
    """D11."""
    assert outcomes["words near"][0]["transcript"].startswith("To Paris Ann")


def test_names_go_to_the_wrong_speaker(outcomes: dict[str, Any]) -> None:
    """D12: the first introduction named nobody, so its speaker gets the second's name."""
    assert outcomes["intros shifted"][1] == [["SPEAKER_00", "Ann"], ["SPEAKER_01", "Bob"]]


def test_errors_become_headlines_and_one_topic_has_no_heading(outcomes: dict[str, Any]) -> None:
    """D15, D20."""
    assert outcomes["llm None"][0] == "Error: Could not generate LLM output for topic 0"
    assert "## A: b!" not in outcomes["texts one topic"][1]
    assert outcomes["texts too few headlines"][1].startswith("[")


def stock(standin: Standin, tmp_path: Path, rows: Any = meeting.IN_PHRASES) -> Any:
    """What VideoTranscriber makes of the meeting, called as its README says."""
    import mst  # noqa: PLC0415  the stand-in's, while it is on the path
    from mst.steps import diarization, transcription  # noqa: PLC0415  as above

    said = [SimpleNamespace(start=row.start, end=row.end, text=f" {row.transcript}") for row in rows]
    transcription._whisper_models["distil-large-v3"] = SimpleNamespace(
        transcribe=lambda _path: (iter(said), None)
    )
    pipeline = diarization.get_diarization_pipeline()
    sound = SimpleNamespace(shape=(1, 16_000 * 120))
    diarization._diarization_pipelines["pyannote/speaker-diarization-3.1"] = lambda _path: pipeline(
        {"waveform": sound, "sample_rate": 16_000}
    )
    return mst.VideoTranscriber().transcribe_video(str(tmp_path / "a.wav"))


def test_a_stock_run(
    standin: Standin, tmp_path: Path, llm: LlmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", llm.openai_url)
    final, nouns = stock(standin, tmp_path)
    assert nouns["Person"] == [{"text": "Ann Miller"}, {"text": "Bob Stone"}]
    assert meeting.GLUED in " ".join(row["transcript"] for row in final)  # D6
    assert final[0]["speaker_name"] == "UNKNOWN"  # D2: the first turn is lost
    assert (tmp_path / "a.d/cache.final").exists()


@pytest.mark.parametrize(
    ("orders", "error"),
    [
        pytest.param({"names": {}}, "'NoneType' object is not iterable", id="no named entity"),
        pytest.param({"turns": [[0, 120, "A"]]}, "duration", id="one turn"),
        pytest.param({"turns": []}, "duration", id="no turn"),
        pytest.param({"missing": ["urchade/gliner_medium-v2.1"]}, "'NoneType' object", id="no GLiNER"),
        pytest.param({"at": {"pyannote": {"do": "gpu_oom"}}}, "duration", id="out of GPU memory"),
        pytest.param({"at": {"setfit": {"do": "raise"}}}, "setfit failed", id="SetFit"),
    ],
)
def test_a_stock_run_ends_in_a_strange_error(
    standin: Standin,
    tmp_path: Path,
    llm: LlmServer,
    monkeypatch: pytest.MonkeyPatch,
    orders: dict[str, Any],
    error: str,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", llm.openai_url)
    standin.order(**orders)
    with pytest.raises((TypeError, KeyError, RuntimeError), match=error):
        stock(standin, tmp_path)


def test_a_stock_run_without_speech_ends_in_a_strange_error(standin: Standin, tmp_path: Path) -> None:
    """D5."""
    with pytest.raises(ValueError, match="Expected 2D array"):
        stock(standin, tmp_path, rows=())


def test_a_stock_run_without_a_language_model_ends(
    standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D14: for want of a list of names, the transcript is lost."""
    import openai  # noqa: PLC0415  the stand-in's, while it is on the path

    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    with pytest.raises(openai.APIConnectionError):
        stock(standin, tmp_path)
