"""The real engine with the wheel's model on real speech, silence and noise."""

from __future__ import annotations

import itertools
import shutil
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.engines.spoken import DATA, TWO_CITIES, human, word_errors
from tests.sources.audio_files import write_ready
from worker.engines import whisper_model
from worker.engines.checkpoints import NO_CHECKPOINTS
from worker.engines.protocol import Options, Progress, Transcript
from worker.engines.whisper import WhisperEngine
from worker.errors import EngineFailed, EngineUnavailable, NotAudio
from worker.sources.convert import convert
from worker.sources.pcm import PcmReader

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def two_cities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(human("two_cities.wav"), tmp_path_factory.mktemp("speech") / "two_cities.wav").path


def run(
    engine: WhisperEngine, path: Path, options: Options | None = None
) -> tuple[Transcript, list[Progress]]:
    reports: list[Progress] = []
    made = engine.transcribe(path, options or Options(), reports.append, lambda: None, NO_CHECKPOINTS)
    return made, reports


def text_of(transcript: Transcript) -> str:
    return " ".join(segment.transcript for segment in transcript.segments)


def assert_times_are_sound(transcript: Transcript) -> None:
    for segment in transcript.segments:
        assert 0 <= segment.start < segment.end <= transcript.duration_s + 0.001
    for one, following in itertools.pairwise(transcript.segments):
        assert one.end <= following.start


def assert_progress_is_sound(reports: list[Progress]) -> None:
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert all(0 <= fraction <= 1 for fraction in fractions)
    assert {(report.step, report.number, report.of) for report in reports} == {("transcribe", 1, 1)}


def test_the_meeting_is_heard_sentence_by_sentence() -> None:
    made, _ = run(WhisperEngine(device="cpu"), DATA / "meeting.wav")
    expected = (DATA / "meeting.txt").read_text()
    assert word_errors(expected, text_of(made)) <= 0.05
    assert_times_are_sound(made)
    assert len(made.segments) == expected.count(".") + expected.count("?")
    assert (made.engine, made.model, made.language, made.partial) == ("whisper", "tiny.en", "en", False)
    assert made.duration_s == pytest.approx(30, abs=5)


def test_human_speech_over_several_windows(engine: WhisperEngine, two_cities: Path) -> None:
    made, reports = run(engine, two_cities)
    assert word_errors(TWO_CITIES, text_of(made)) <= 0.06
    assert_times_are_sound(made)
    assert_progress_is_sound(reports)
    assert len(reports) >= 3
    assert reports[-1].done_s == reports[-1].total_s == pytest.approx(44.37, abs=0.01)


def test_the_same_recording_gives_the_same_transcript(engine: WhisperEngine) -> None:
    assert run(engine, DATA / "meeting.wav") == run(engine, DATA / "meeting.wav")


@pytest.mark.parametrize("length_s", [0.0001, 0.2, 25])
def test_silence_is_a_transcript_without_sentences(
    engine: WhisperEngine, tmp_path: Path, length_s: float
) -> None:
    silence = np.zeros(max(1, int(length_s * RATE_HZ)), np.int16)
    made, reports = run(engine, write_ready(tmp_path / "a.wav", silence))
    assert made.segments == ()
    assert not made.partial
    assert_progress_is_sound(reports)


def test_noise_is_not_taken_for_speech(engine: WhisperEngine, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 3000, 25 * RATE_HZ).astype(np.int16)
    made, _ = run(engine, write_ready(tmp_path / "a.wav", noise))
    assert made.segments == ()


def test_a_fifth_of_a_second_of_speech_is_no_failure(engine: WhisperEngine, tmp_path: Path) -> None:
    with PcmReader(DATA / "meeting.wav") as pcm:
        samples = (pcm.read(0.3, 0.2) * 32_768).astype(np.int16)
    made, reports = run(engine, write_ready(tmp_path / "a.wav", samples))
    assert_times_are_sound(made)
    assert_progress_is_sound(reports)


class Stop(BaseException):
    """What a cancelled job's check raises."""


def test_cancelling_stops_the_work_midway(engine: WhisperEngine, two_cities: Path) -> None:
    reports: list[Progress] = []

    def check() -> None:
        if reports:
            raise Stop

    with pytest.raises(Stop):
        engine.transcribe(two_cities, Options(), reports.append, check, NO_CHECKPOINTS)
    assert reports[-1].fraction < 1
    # The engine stays good for the next job.
    assert run(engine, DATA / "meeting.wav")[0].segments


def test_nothing_is_begun_for_a_job_that_is_cancelled_already(
    engine: WhisperEngine, two_cities: Path
) -> None:
    def check() -> None:
        raise Stop

    with pytest.raises(Stop):
        engine.transcribe(two_cities, Options(), lambda _: None, check, NO_CHECKPOINTS)


def test_check_and_report_come_from_the_calling_thread(engine: WhisperEngine) -> None:
    threads: set[int] = set()

    def note(*_: object) -> None:
        threads.add(threading.get_ident())

    engine.transcribe(DATA / "meeting.wav", Options(), note, note, NO_CHECKPOINTS)
    assert threads == {threading.get_ident()}


def test_another_language_is_refused_with_the_remedy(engine: WhisperEngine) -> None:
    with pytest.raises(EngineFailed, match="WHISPER_MODEL to a multilingual model"):
        run(engine, DATA / "meeting.wav", Options(language="de"))
    assert run(engine, DATA / "meeting.wav", Options(language="EN"))[0].language == "en"


def test_what_is_not_converted_is_refused(engine: WhisperEngine) -> None:
    with pytest.raises(NotAudio, match="convert"):
        run(engine, human("two_cities.wav"))


def test_a_tampered_model_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "model"
    shutil.copytree(whisper_model.bundled_folder(), copy)
    with (copy / "model.bin").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"\xff")
    monkeypatch.setattr(whisper_model, "bundled_folder", lambda: copy)
    with pytest.raises(EngineUnavailable, match="not the published model"):
        WhisperEngine(device="cpu").prepare()


def test_a_folder_is_loaded_by_its_path_alone(tmp_path: Path) -> None:
    copy = tmp_path / "my-model"
    copy.symlink_to(whisper_model.bundled_folder())
    made, _ = run(WhisperEngine(model=str(copy), device="cpu"), DATA / "meeting.wav")
    assert made.model == "my-model"
    assert made.segments


def test_a_folder_that_is_no_model_names_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"lacks model\.bin.*WHISPER_MODEL"):
        WhisperEngine(model=str(tmp_path), device="cpu").prepare()
    with pytest.raises(EngineUnavailable, match=r"lacks model\.bin"):
        WhisperEngine(model=str(tmp_path / "gone"), device="cpu").prepare()


def test_a_name_no_hub_can_give_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnavailable, match=r"'no-such-size' cannot be loaded.*WHISPER_MODEL"):
        WhisperEngine(model="no-such-size", device="cpu").prepare()
