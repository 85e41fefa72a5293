"""Where plain mst ends in a strange error or a wrong result, ours is right, or partial, or clear."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.engines.mst import meeting
from tests.sources.audio_files import encode, tone
from worker.engines.protocol import Options, Segment
from worker.errors import EngineFailed, EngineUnavailable, JobError, NotAudio

if TYPE_CHECKING:
    from tests.engines.mst.bench import Bench, Run
    from tests.engines.mst.llm_server import LlmServer

ALL = list(meeting.SENTENCES)


def assert_lacks_only(run: Run, step: str) -> None:
    """The words are all there; the warning names the step that fell short, for a reader."""
    assert run.texts == ALL
    assert run.transcript.partial
    assert {warning.step for warning in run.transcript.warnings} == {step}
    for warning in run.transcript.warnings:
        assert warning.code.isidentifier()
        assert len(warning.reason) > 10
    assert run.reports[-1].fraction == 1


class TestNothingToDo:
    @pytest.mark.parametrize("length_s", [0.0001, 0.2, 25])
    def test_no_speech(self, bench: Bench, llm: LlmServer, length_s: float) -> None:
        """D5: an empty transcript, and no model is troubled with it."""
        bench.speech.segments = ()
        run = bench.run(openai_base_url=llm.openai_url, recording=bench.recording(length_s))
        assert run.texts == []
        assert (run.transcript.partial, run.transcript.warnings) == (False, ())
        assert (run.transcript.topics, run.transcript.entities) == ((), ())
        assert run.transcript.language is None
        assert run.reports[-1].fraction == 1
        assert [bench.standin.count(one) for one in ("setfit", "gliner", "pyannote", "spacy")] == [0] * 4
        assert llm.chats() == []

    def test_no_named_entity(self, bench: Bench, llm: LlmServer) -> None:
        """D1: nothing to correct by is no failure."""
        bench.standin.order(names={})
        run = bench.run(openai_base_url=llm.openai_url)
        assert run.texts == ALL
        assert (run.transcript.partial, run.transcript.warnings) == (False, ())
        assert run.transcript.entities == ()
        assert not [one for one in llm.chats() if one.wants_json]

    def test_nobody_introduces_himself(self, bench: Bench, llm: LlmServer) -> None:
        bench.speech.segments = tuple(
            replace(one, transcript=one.transcript.replace("my name is", "says")) for one in meeting.SPEECH
        )
        run = bench.run(openai_base_url=llm.openai_url)
        assert not run.transcript.partial
        assert len(set(run.speakers)) == 2
        assert not {"Ann Miller", "Bob Stone"} & set(run.speakers)

    def test_too_short_for_topics(self, bench: Bench, llm: LlmServer) -> None:
        """D16: seven sentences, where a topic has four at least."""
        bench.speech.segments = (*meeting.SPEECH[:6], Segment(30, 34, "And that is all."))
        run = bench.run(openai_base_url=llm.openai_url)
        assert len(run.texts) == 7
        assert not run.transcript.partial
        assert len(run.transcript.topics) <= 1

    def test_one_sentence(self, bench: Bench, llm: LlmServer) -> None:
        bench.speech.segments = meeting.SPEECH[:1]
        run = bench.run(openai_base_url=llm.openai_url)
        assert run.texts == ALL[:1]
        assert run.speakers == ["Ann Miller"]


class TestRepetition:
    def test_the_same_sentence_again_and_again(self, bench: Bench, llm: LlmServer) -> None:
        """D18: ties in treeseg's heap; D9: none is lost."""
        bench.speech.segments = tuple(replace(one, transcript="Yes, we do.") for one in meeting.SPEECH)
        run = bench.run(openai_base_url=llm.openai_url)
        assert run.texts == ["Yes, we do."] * 24
        assert not run.transcript.partial


class TestTurns:
    @pytest.mark.parametrize(
        ("turns", "speakers"),
        [
            pytest.param([[0, 120, "SPEAKER_00"]], 1, id="one"),
            pytest.param([], 1, id="none"),
            pytest.param([[0, 120, "SPEAKER_00"], [40, 80, "SPEAKER_01"]], 2, id="nested"),
            pytest.param([[0, 70, "SPEAKER_00"], [60, 120, "SPEAKER_01"]], 2, id="overlapping"),
            pytest.param([[50, 70, "SPEAKER_00"]], 1, id="in the middle only"),
        ],
    )
    def test_no_sentence_is_lost(
        self, bench: Bench, llm: LlmServer, turns: list[list[object]], speakers: int
    ) -> None:
        """D2, D3, D9, D10."""
        bench.standin.order(turns=turns)
        run = bench.run(openai_base_url=llm.openai_url)
        assert run.texts == ALL
        assert not run.transcript.partial
        named = {speaker for speaker in run.speakers if speaker}
        assert len(named) <= speakers
        assert "[SILENCE]" not in " ".join(run.texts)
        for one, following in itertools.pairwise(run.transcript.segments):
            assert one.end <= following.start

    def test_the_only_turn_has_the_name(self, bench: Bench, llm: LlmServer) -> None:
        bench.standin.order(turns=[[0, 120, "SPEAKER_00"]])
        bench.speech.segments = tuple(
            replace(one, transcript="Then we begin.") if at == 8 else one
            for at, one in enumerate(meeting.SPEECH)
        )
        assert set(bench.run(openai_base_url=llm.openai_url).speakers) == {"Ann Miller"}

    def test_silence_between_speakers_is_no_text(self, bench: Bench, llm: LlmServer) -> None:
        """D10."""
        bench.speech.segments = meeting.SPEECH[:8] + meeting.SPEECH[16:]
        run = bench.run(openai_base_url=llm.openai_url)
        assert run.texts == ALL[:8] + ALL[16:]
        assert not [one for one in llm.chats() if "[SILENCE]" in one.prompt]


class TestNames:
    def test_a_nameless_introduction_shifts_no_name(self, bench: Bench, llm: LlmServer) -> None:
        """D12: the second speaker's name stays with the second speaker."""
        bench.standin.order(
            names={name: label for name, label in meeting.NAMES.items() if name != "Ann Miller"}
        )
        run = bench.run(openai_base_url=llm.openai_url)
        assert run.speakers[8:16] == ["Bob Stone"] * 8
        assert "Bob Stone" not in run.speakers[:8] + run.speakers[16:]

    def test_an_introduction_outside_all_turns_names_nobody(self, bench: Bench, llm: LlmServer) -> None:
        """D23: no speaker is called null."""
        bench.standin.order(turns=[[0, 39, "SPEAKER_00"], [90, 120, "SPEAKER_01"]])
        run = bench.run(openai_base_url=llm.openai_url)
        assert "Bob Stone" not in run.speakers[18:]
        assert "null" not in run.speakers

    def test_a_name_keeps_its_case_and_stops(self, bench: Bench, llm: LlmServer) -> None:
        """D11."""
        run = bench.run(openai_base_url=llm.openai_url)
        assert "Pipes carry water under O'Brien Street, then to Riverton." in run.texts

    def test_a_misspelt_name_is_corrected_and_keeps_its_stops(self, bench: Bench, llm: LlmServer) -> None:
        bench.speech.segments = tuple(
            replace(one, transcript="The way to Rivertonn, it leaks.") if at == 20 else one
            for at, one in enumerate(meeting.SPEECH)
        )
        assert "The way to Riverton, it leaks." in bench.run(openai_base_url=llm.openai_url).texts


class TestAModelFails:
    """During the job, in one step: its part is missing, and the result says so."""

    @pytest.mark.parametrize("do", ["raise", "oom"])
    def test_diarization(self, bench: Bench, llm: LlmServer, do: str) -> None:
        """D3."""
        bench.standin.at("pyannote", do)
        run = bench.run(openai_base_url=llm.openai_url)
        assert_lacks_only(run, "diarize")
        assert set(run.speakers) <= {None, "UNKNOWN"}
        assert len(run.transcript.topics) > 1

    def test_after_a_failed_diarization_the_next_job_has_speakers(self, bench: Bench, llm: LlmServer) -> None:
        """D3: and so has the same job, tried again with the same checkpoints."""
        bench.standin.at("pyannote", "raise")
        engine, kept = bench.engine(openai_base_url=llm.openai_url), bench.checkpoints()
        assert bench.run(engine, checkpoints=kept).transcript.partial
        bench.standin.order(at={})
        run = bench.run(engine, checkpoints=kept)
        assert "Ann Miller" in run.speakers
        assert not run.transcript.partial

    def test_a_batch_of_entities(self, bench: Bench, llm: LlmServer) -> None:
        bench.standin.at("gliner", "raise")
        run = bench.run(openai_base_url=llm.openai_url)
        assert_lacks_only(run, "entities")
        assert run.transcript.entities == ()

    def test_correction(self, bench: Bench, llm: LlmServer) -> None:
        bench.standin.at("encode", "raise", on=[1])
        assert_lacks_only(bench.run(openai_base_url=llm.openai_url, embedding_model="stub"), "correct")

    def test_introductions(self, bench: Bench, llm: LlmServer) -> None:
        bench.standin.at("setfit", "raise")
        run = bench.run(openai_base_url=llm.openai_url)
        assert_lacks_only(run, "introductions")
        assert len({*run.speakers}) == 2

    def test_topics(self, bench: Bench, llm: LlmServer) -> None:
        bench.standin.at("treeseg", "raise")
        run = bench.run(openai_base_url=llm.openai_url)
        assert_lacks_only(run, "topics")
        assert "Ann Miller" in run.speakers

    def test_whisper_ends_the_job_with_a_clear_error(self, bench: Bench, llm: LlmServer) -> None:
        """D4: never taken for silence."""
        bench.standin.at("whisper", "raise")
        with pytest.raises(EngineFailed, match="transcription failed"):
            bench.run(openai_base_url=llm.openai_url)


class TestInput:
    def test_a_recording_that_is_gone(self, bench: Bench, llm: LlmServer) -> None:
        """D4."""
        with pytest.raises((JobError, OSError)):
            bench.run(openai_base_url=llm.openai_url, recording=bench.folder / "none.wav")

    def test_a_recording_that_is_no_such_wav(self, bench: Bench, llm: LlmServer) -> None:
        other = encode(bench.folder / "a.flac", "flac", tone(1), 16_000)
        with pytest.raises(NotAudio):
            bench.run(openai_base_url=llm.openai_url, recording=other)


class TestAModelIsNotThere:
    """D4, 1.7: prepare says which, and the variable to set."""

    @pytest.mark.parametrize(
        ("setting", "variable"),
        [
            ("entity_model", "ENTITY_MODEL"),
            ("sentence_model", "SENTENCE_MODEL"),
            ("correction_model", "CORRECTION_MODEL"),
            ("introduction_model", "INTRODUCTION_MODEL"),
            ("diarization_model", "DIARIZATION_MODEL"),
        ],
    )
    def test_missing(self, bench: Bench, setting: str, variable: str) -> None:
        bench.standin.order(missing=["lost/model"])
        with pytest.raises(EngineUnavailable, match="lost/model") as caught:
            bench.engine(**{setting: "lost/model"}).prepare()
        assert variable in caught.value.message

    def test_behind_terms_of_use(self, bench: Bench) -> None:
        bench.standin.order(gated=["pyannote/speaker-diarization-3.1"])
        with pytest.raises(EngineUnavailable, match="HF_TOKEN") as caught:
            bench.engine().prepare()
        assert "pyannote/speaker-diarization-3.1" in caught.value.message

    def test_the_hub_is_offline(self, bench: Bench) -> None:
        bench.standin.order(offline=True)
        with pytest.raises(EngineUnavailable, match=r"[A-Z]+_MODEL"):
            bench.engine().prepare()

    def test_a_job_without_prepare_says_the_same(self, bench: Bench, llm: LlmServer) -> None:
        bench.standin.order(missing=["urchade/gliner_medium-v2.1"])
        with pytest.raises(EngineUnavailable, match="ENTITY_MODEL"):
            bench.run(openai_base_url=llm.openai_url)

    def test_it_can_be_prepared_once_it_is_there(self, bench: Bench) -> None:
        bench.standin.order(missing=["urchade/gliner_medium-v2.1"])
        engine = bench.engine()
        with pytest.raises(EngineUnavailable):
            engine.prepare()
        bench.standin.order(missing=[])
        engine.prepare()


def test_the_last_sentences_are_kept(bench: Bench, llm: LlmServer) -> None:
    """D9: sentences at the recording's very end, the turns ending before them."""
    bench.standin.order(turns=[[0, 60, "SPEAKER_00"]])
    bench.speech.segments = (*meeting.SPEECH[:23], Segment(119.9, 120, "Bye."))
    assert bench.run(openai_base_url=llm.openai_url).texts[-1] == "Bye."


def test_a_long_sentence_over_two_phrases_is_one(bench: Bench, llm: LlmServer) -> None:
    """D6, D7: sentences are put together across segments, with a blank between."""
    bench.speech.segments = (
        Segment(0, 4, "The pump that brings water"),
        Segment(4, 8, "from the lake is new. It"),
        Segment(8, 12, "works."),
    )
    run = bench.run(openai_base_url=llm.openai_url, options=Options(topics=False))
    assert run.texts == ["The pump that brings water from the lake is new.", "It works."]
    assert run.transcript.segments[1].start >= 6


def test_an_error_of_the_attempts_own_is_no_failed_step(bench: Bench, llm: LlmServer) -> None:
    """Reports and checks talk to Redis: what they raise ends the attempt, and is not taken for a model's."""

    def check() -> None:
        if bench.standin.count("gliner"):
            raise ValueError("the record is gone")

    with pytest.raises(ValueError, match="the record is gone"):
        bench.run(openai_base_url=llm.openai_url, check=check)


def test_embeddings_of_no_server_are_a_mistake_in_the_settings(bench: Bench) -> None:
    with pytest.raises(EngineUnavailable, match="EMBEDDING_MODEL"):
        bench.engine(embedding_model="nomic").prepare()
