"""A job on the stand-in that goes well: its transcript, its progress, what it costs, what it leaves."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.engines.mst import meeting
from worker.engines.protocol import Options, Progress

if TYPE_CHECKING:
    from tests.engines.mst.bench import Bench, Run
    from tests.engines.mst.llm_server import LlmServer

ANN, BOB = "Ann Miller", "Bob Stone"


@pytest.fixture
def run(bench: Bench, llm: LlmServer) -> Run:
    return bench.run(openai_base_url=llm.openai_url)


def assert_times_are_sound(run: Run) -> None:
    for segment in run.transcript.segments:
        assert 0 <= segment.start < segment.end <= run.transcript.duration_s + 0.001
    for one, following in itertools.pairwise(run.transcript.segments):
        assert one.end <= following.start


def test_every_sentence_is_there_as_it_was_said(run: Run) -> None:
    """D6, D7, D8, D9, D10, D11: no word is glued, no sentence moved, lost or bent."""
    assert run.texts == list(meeting.SENTENCES)
    assert_times_are_sound(run)
    starts = [segment.start for segment in run.transcript.segments]
    assert starts == pytest.approx([said.start for said in meeting.SPEECH], abs=0.6)


def test_speakers_have_the_names_they_gave(run: Run) -> None:
    """D2: the first speaker, too."""
    assert run.speakers == [ANN] * 8 + [BOB] * 8 + [ANN] * 8


def test_topics_have_headlines_and_summaries(run: Run) -> None:
    numbers = [segment.topic for segment in run.transcript.segments]
    assert numbers == sorted(numbers, key=lambda number: -1 if number is None else number)
    assert set(numbers) == set(range(len(run.transcript.topics)))
    assert 2 <= len(run.transcript.topics) <= 3
    for number, topic in enumerate(run.transcript.topics):
        first = meeting.SENTENCES[numbers.index(number)]
        assert topic.headline == f"Headline: {' '.join(first.split()[:3])}"
        assert topic.summary == f"Summary: {' '.join(first.split()[:3])}"


def test_entities_are_listed(run: Run) -> None:
    found = {(one.label, one.text) for one in run.transcript.entities}
    assert {("Person", ANN), ("Person", BOB), ("Locations", "Riverton"), ("Date", "May")} <= found


def test_it_says_what_it_is_and_lacks_nothing(run: Run) -> None:
    made = run.transcript
    assert (made.engine, made.language, made.partial, made.warnings) == ("mst", "en", False, ())
    assert made.duration_s == meeting.LENGTH_S


def test_progress_never_falls_and_ends_at_one(run: Run) -> None:
    fractions = [report.fraction for report in run.reports]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0
    assert fractions[-1] == 1
    assert all(0 <= fraction <= 1 for fraction in fractions)


def test_steps_are_numbered_and_named(run: Run) -> None:
    assert_steps_are_sound(run.reports)
    steps = list(dict.fromkeys(report.step for report in run.reports))
    assert len(steps) >= 8


def assert_steps_are_sound(reports: list[Progress]) -> None:
    """Each number has one name, numbers never fall, and ``of`` stays."""
    numbers = [report.number for report in reports]
    assert numbers == sorted(numbers)
    assert len({report.of for report in reports}) == 1
    assert numbers[0] >= 1
    assert numbers[-1] <= reports[0].of
    assert len({(report.number, report.step) for report in reports}) == len(set(numbers))


def test_long_steps_tell_of_their_progress_inside(run: Run) -> None:
    for step in ("transcribe", "diarize"):
        inside = [report.fraction for report in run.reports if report.step == step]
        assert len(set(inside)) >= 3, step


def test_nothing_of_mst_reaches_stdout(
    bench: Bench, llm: LlmServer, capfd: pytest.CaptureFixture[str]
) -> None:
    bench.run(openai_base_url=llm.openai_url)
    shown = "".join(capfd.readouterr())
    told = ("Step 1", "Processing batch", "Generating LLM", "Headline:", *meeting.SENTENCES, ANN)
    assert [words for words in told if words in shown] == []


def test_stdout_is_given_back(bench: Bench, llm: LlmServer, capfd: pytest.CaptureFixture[str]) -> None:
    bench.run(openai_base_url=llm.openai_url)
    capfd.readouterr()
    print("mine")  # noqa: T201  what is tested
    assert capfd.readouterr().out == "mine\n"


def test_reports_and_checks_come_from_the_calling_thread(bench: Bench, llm: LlmServer) -> None:
    threads: set[int] = set()

    def note(*_: object) -> None:
        threads.add(threading.get_ident())

    engine = bench.engine(openai_base_url=llm.openai_url)
    engine.transcribe(bench.recording(), Options(max_topics=3), note, note, bench.checkpoints())
    assert threads == {threading.get_ident()}


def test_models_are_loaded_once_over_two_jobs(bench: Bench, llm: LlmServer) -> None:
    """D25, D13: and no second GLiNER."""
    engine = bench.engine(openai_base_url=llm.openai_url)
    engine.prepare()
    engine.prepare()
    loaded = count_loads(bench)
    assert loaded == {"gliner": 1, "spacy": 1, "sentences": 1, "setfit": 1, "pyannote": 1}
    assert bench.run(engine).texts == bench.run(engine).texts
    assert count_loads(bench) == loaded


def count_loads(bench: Bench) -> dict[str, int]:
    names = [one["call"].removesuffix(".load") for one in bench.standin.calls() if ".load" in one["call"]]
    return {name: names.count(name) for name in names}


def test_all_models_are_loaded_by_prepare(bench: Bench, llm: LlmServer) -> None:
    bench.engine(openai_base_url=llm.openai_url).prepare()
    assert set(count_loads(bench)) == {"gliner", "spacy", "sentences", "setfit", "pyannote"}


def test_each_word_is_encoded_once(run: Run, bench: Bench) -> None:
    """D25: by plain mst one call for each word of the recording."""
    encoded = [text for one in bench.standin.calls("encode") for text in one["texts"]]
    words = {text for text in encoded if " " not in text} - set(meeting.SENTENCES)
    assert len(words) > 10
    assert [word for word in sorted(words) if encoded.count(word) > 1] == []
    assert bench.standin.count("encode") < 20


def test_the_configured_names_model_serves_introductions_too(bench: Bench, llm: LlmServer) -> None:
    """D13, D24: neither the default model nor the default threshold."""
    run = bench.run(openai_base_url=llm.openai_url, entity_model="our/gliner", entity_threshold=0.5)
    assert {one["model"] for one in bench.standin.calls("gliner.load")} == {"our/gliner"}
    assert {one["threshold"] for one in bench.standin.calls("gliner")} == {0.5}
    assert run.speakers[0] == ANN


def test_generic_words_are_no_entities(bench: Bench, llm: LlmServer) -> None:
    """D24."""
    bench.standin.order(names={**meeting.NAMES, "children": "Person", "today": "Date", "somebody": "Person"})
    bench.speech.segments = tuple(
        replace(one, transcript=f"{one.transcript[:-1]}, somebody said today.") if at == 9 else one
        for at, one in enumerate(meeting.SPEECH)
    )
    run = bench.run(openai_base_url=llm.openai_url)
    texts = {one.text for one in run.transcript.entities}
    assert "children" in texts
    assert not texts & {"today", "somebody"}


def test_nothing_is_left_beside_the_recording(bench: Bench, llm: LlmServer) -> None:
    """D22."""
    bench.recording()
    before = set(bench.folder.rglob("*"))
    bench.run(openai_base_url=llm.openai_url, checkpoints=bench.checkpoints())
    kept = bench.folder / "kept"
    assert {path for path in bench.folder.rglob("*") if kept not in (path, *path.parents)} == before


def test_another_recording_of_the_same_name_has_its_own_result(bench: Bench, llm: LlmServer) -> None:
    """D22: content, not path, tells results apart."""
    engine = bench.engine(openai_base_url=llm.openai_url)
    bench.run(engine, options=Options(max_topics=2))
    bench.speech.segments = meeting.SPEECH[:4]
    assert bench.run(engine).texts == list(meeting.SENTENCES[:4])


def test_another_number_of_topics_is_not_the_old_result(bench: Bench, llm: LlmServer) -> None:
    """D22: with the same checkpoints."""
    engine, kept = bench.engine(openai_base_url=llm.openai_url), bench.checkpoints()
    many = bench.run(engine, options=Options(max_topics=3), checkpoints=kept)
    few = bench.run(engine, options=Options(max_topics=2), checkpoints=kept)
    assert len(few.transcript.topics) == 2 < len(many.transcript.topics)


def test_two_jobs_in_turn_give_the_same(bench: Bench, llm: LlmServer) -> None:
    engine = bench.engine(openai_base_url=llm.openai_url)
    first, second = bench.run(engine), bench.run(engine)
    assert first.transcript == second.transcript


class TestOptions:
    def test_without_speakers(self, bench: Bench, llm: LlmServer) -> None:
        run = bench.run(openai_base_url=llm.openai_url, options=Options(max_topics=3, diarize=False))
        assert run.texts == list(meeting.SENTENCES)
        assert set(run.speakers) == {None}
        assert bench.standin.count("pyannote") == 0
        assert not run.transcript.partial
        assert_steps_are_sound(run.reports)

    def test_without_topics(self, bench: Bench, llm: LlmServer) -> None:
        run = bench.run(openai_base_url=llm.openai_url, options=Options(topics=False))
        assert run.transcript.topics == ()
        assert {segment.topic for segment in run.transcript.segments} == {None}
        assert [one for one in llm.chats() if not one.wants_json] == []
        assert not run.transcript.partial

    def test_one_topic(self, bench: Bench, llm: LlmServer) -> None:
        """D20, D18: one topic is a topic."""
        run = bench.run(openai_base_url=llm.openai_url, options=Options(max_topics=1))
        assert len(run.transcript.topics) == 1
        assert {segment.topic for segment in run.transcript.segments} == {0}

    @pytest.mark.parametrize("most", [2, 100])
    def test_at_most_so_many_topics(self, bench: Bench, llm: LlmServer, most: int) -> None:
        run = bench.run(openai_base_url=llm.openai_url, options=Options(max_topics=most))
        assert 1 < len(run.transcript.topics) <= min(most, 6)

    def test_the_language_reaches_whisper(self, bench: Bench, llm: LlmServer) -> None:
        """D27."""
        run = bench.run(openai_base_url=llm.openai_url, options=Options(language="de", max_topics=2))
        assert run.transcript.language == "de"

    def test_no_speaker_model_is_wanted(self, bench: Bench, llm: LlmServer) -> None:
        run = bench.run(openai_base_url=llm.openai_url, diarization_model="none")
        assert set(run.speakers) == {None}
        assert bench.standin.count("pyannote.load") == 0
        assert run.texts == list(meeting.SENTENCES)


def test_running_inside_a_loop_or_a_thread(bench: Bench, llm: LlmServer) -> None:
    """D17: topics need no loop of the caller's, in whatever thread."""
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(bench.run(openai_base_url=llm.openai_url)))
    thread.start()
    thread.join(60)
    assert len(made[0].transcript.topics) > 1
