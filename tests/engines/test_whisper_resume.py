"""An attempt after a kill goes on where the first one was, and comes to the same result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from faster_whisper import WhisperModel as FasterWhisper
from structlog.testing import capture_logs

from tests.engines.spoken import human, samples
from tests.sources.audio_files import write_ready
from worker.engines.checkpoints import NO_CHECKPOINTS, FolderCheckpoints, recording_id
from worker.engines.decoding import Decoder
from worker.engines.oom import RAN_ON_CPU, with_room
from worker.engines.protocol import Options, Progress, Transcript
from worker.engines.sentences import Phrase
from worker.engines.whisper import WhisperEngine
from worker.engines.whisper_model import bundled_folder, content_id
from worker.errors import OutOfGpuMemory
from worker.sources.convert import convert

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent
WINDOWS = 5
# Runs the engine and kills its process once it has kept so many windows.
VICTIM = """
import os, signal, sys
from pathlib import Path
from worker.engines.checkpoints import FolderCheckpoints
from worker.engines.protocol import Options
from worker.engines.whisper import WhisperEngine

class Fatal(FolderCheckpoints):
    def save(self, name, value):
        super().save(name, value)
        if name == f"window-{int(sys.argv[4]) - 1:06d}":
            os.kill(os.getpid(), signal.SIGKILL)

kept = Fatal(Path(sys.argv[2]), {"recording": sys.argv[3]})
WhisperEngine(device="cpu", window_s=20).transcribe(
    Path(sys.argv[1]), Options(), lambda _: None, lambda: None, kept)
"""


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twice 44 s of speech with silence between: five windows."""
    folder = tmp_path_factory.mktemp("speech")
    audio = samples(convert(human("two_cities.wav"), folder / "once.wav").path)
    return write_ready(folder / "twice.wav", np.concatenate([audio, np.zeros(16_000, np.int16), audio]))


@pytest.fixture(scope="module")
def whole_run(engine: WhisperEngine, speech: Path) -> tuple[Transcript, list[float]]:
    """An undisturbed run: its result, and where the chunks were that it decoded."""
    with pytest.MonkeyPatch.context() as patch:
        starts = note_decoding(patch)
        return transcribe(engine, speech, NO_CHECKPOINTS), starts


@pytest.fixture(scope="module")
def undisturbed(whole_run: tuple[Transcript, list[float]]) -> Transcript:
    return whole_run[0]


@pytest.fixture
def decoded_from(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Where in the recording the chunks were that have been decoded."""
    return note_decoding(monkeypatch)


def note_decoding(patch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    decode = Decoder.decode

    def noted(self: Decoder, chunks: Any, language: str) -> Any:
        found.extend(chunk.start_s for chunk in chunks)
        return decode(self, chunks, language)

    patch.setattr(Decoder, "decode", noted)
    return found


def transcribe(engine: WhisperEngine, path: Path, checkpoints: Any, **options: Any) -> Transcript:
    return engine.transcribe(path, Options(**options), lambda _: None, lambda: None, checkpoints)


def kept(folder: Path, recording: Path) -> FolderCheckpoints:
    return FolderCheckpoints(folder / "checkpoints", {"recording": recording_id(recording)})


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("window-*.json"))


def until_s(folder: Path) -> float:
    """Where the last window ends that was kept."""
    kept_value = json.loads(files(folder)[-1].read_bytes().partition(b"\n")[2])
    return float(kept_value["until_s"])


@pytest.mark.parametrize("windows", range(1, WINDOWS + 1))
def test_a_run_killed_behind_any_window_is_continued_there(
    engine: WhisperEngine,
    speech: Path,
    whole_run: tuple[Transcript, list[float]],
    tmp_path: Path,
    decoded_from: list[float],
    windows: int,
) -> None:
    undisturbed, all_chunks = whole_run
    arguments = [str(speech), str(tmp_path / "checkpoints"), recording_id(speech), str(windows)]
    killed = subprocess.run([sys.executable, "-c", VICTIM, *arguments], cwd=ROOT, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert len(files(tmp_path)) == windows
    behind_s = until_s(tmp_path)
    reports: list[Progress] = []
    with capture_logs() as logs:
        again = engine.transcribe(speech, Options(), reports.append, lambda: None, kept(tmp_path, speech))
    assert again == undisturbed
    assert decoded_from == [start_s for start_s in all_chunks if start_s >= behind_s]
    assert len(decoded_from) < len(all_chunks)
    assert len(files(tmp_path)) == WINDOWS
    assert reports[0].done_s == behind_s
    (resumed,) = [entry for entry in logs if entry["event"] == "windows_resumed"]
    assert (resumed["windows"], resumed["until_s"]) == (windows, round(behind_s, 1))


def test_what_was_kept_for_another_recording_or_language_or_by_another_engine_is_not_used(
    engine: WhisperEngine, speech: Path, tmp_path: Path, decoded_from: list[float]
) -> None:
    transcribe(engine, speech, kept(tmp_path, speech))
    decoded_from.clear()
    other = FolderCheckpoints(tmp_path / "checkpoints", {"recording": "another's"})
    longer = WhisperEngine(device="cpu", window_s=30)
    renamed = tmp_path / "my-model"
    renamed.symlink_to(bundled_folder())
    of_a_folder = WhisperEngine(model=str(renamed), device="cpu", window_s=20)
    for run in (
        lambda: transcribe(engine, speech, other),
        lambda: transcribe(longer, speech, kept(tmp_path, speech)),
        lambda: transcribe(of_a_folder, speech, kept(tmp_path, speech)),
    ):
        run()
        assert min(decoded_from) < 2
        decoded_from.clear()
    transcribe(engine, speech, kept(tmp_path, speech))
    assert not decoded_from


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda _: b"", lambda data: data.replace(b"best", b"rest")]
)
def test_a_damaged_checkpoint_is_made_anew(
    engine: WhisperEngine, speech: Path, undisturbed: Transcript, tmp_path: Path, damage: Any
) -> None:
    transcribe(engine, speech, kept(tmp_path, speech))
    first = files(tmp_path)[0]
    whole = first.read_bytes()
    first.write_bytes(damage(whole))
    assert transcribe(engine, speech, kept(tmp_path, speech)) == undisturbed
    assert first.read_bytes() == whole


def test_a_folder_that_is_gone_ends_no_transcription_and_stays_gone(
    engine: WhisperEngine, speech: Path, undisturbed: Transcript, tmp_path: Path
) -> None:
    assert transcribe(engine, speech, kept(tmp_path / "released", speech)) == undisturbed
    assert not (tmp_path / "released").exists()


def test_smaller_batches_give_the_same_words_from_the_same_checkpoints(
    speech: Path, undisturbed: Transcript, tmp_path: Path
) -> None:
    engine = WhisperEngine(device="cpu", window_s=20, batch_size=2)
    engine.prepare()
    assert engine.relieve()
    assert transcribe(engine, speech, kept(tmp_path, speech)).segments == undisturbed.segments
    assert not engine.relieve()
    engine.move_to_cpu()
    assert transcribe(engine, speech, kept(tmp_path, speech)).segments == undisturbed.segments


def test_a_model_folder_is_known_by_name_size_and_time(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    weights = folder / "model.bin"
    weights.write_bytes(b"weights")
    found = {content_id(str(folder))}
    os.utime(weights, (1, 1))
    found.add(content_id(str(folder)))
    weights.write_bytes(b"more weights")
    os.utime(weights, (1, 1))
    found.add(content_id(str(folder)))
    folder.rename(tmp_path / "larger")
    found.add(content_id(str(tmp_path / "larger")))
    assert len(found) == 4
    assert content_id("") == content_id("tiny.en") != content_id("small")


class Stop(BaseException):
    """What ends a job's attempt."""


class Stopping(FolderCheckpoints):
    """Ends the attempt once the first window is kept."""

    def save(self, name: str, value: Any) -> None:
        super().save(name, value)
        raise Stop


@pytest.fixture
def multilingual(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Decoders that know German and English, hear German, and say when they listened for it."""
    heard_at: list[float] = []

    def detect(_self: Decoder, chunks: Any) -> str:
        heard_at.append(chunks[0].start_s)
        return "de"

    def decode(_self: Decoder, chunks: Any, language: str) -> list[Phrase]:
        return [Phrase(one.start_s, one.start_s + one.length_s, f"Auf {language}.") for one in chunks]

    monkeypatch.setattr(Decoder, "is_multilingual", property(lambda _: True))
    monkeypatch.setattr(Decoder, "languages", property(lambda _: ["de", "en"]))
    monkeypatch.setattr(Decoder, "detect_language", detect)
    monkeypatch.setattr(Decoder, "decode", decode)
    return heard_at


@pytest.mark.parametrize("silence_s", [0, 90])
def test_the_language_that_was_heard_is_kept(
    engine: WhisperEngine, speech: Path, tmp_path: Path, multilingual: list[float], silence_s: int
) -> None:
    """Also where the windows that were kept hold no speech to hear it by."""
    audio = samples(speech)[: 60 * 16_000]
    path = write_ready(tmp_path / "a.wav", np.concatenate([np.zeros(silence_s * 16_000, np.int16), audio]))
    undisturbed = transcribe(engine, path, NO_CHECKPOINTS)
    assert undisturbed.language == "de"
    first_heard_s = multilingual.pop()
    assert first_heard_s >= silence_s
    stopping = Stopping(tmp_path / "checkpoints", {"recording": recording_id(path)})
    with pytest.raises(Stop):
        transcribe(engine, path, stopping)
    assert len(files(tmp_path)) == 1
    multilingual.clear()
    assert transcribe(engine, path, kept(tmp_path, path)) == undisturbed
    assert multilingual == ([first_heard_s] if silence_s else [])


def test_what_was_kept_for_another_language_is_not_used(
    engine: WhisperEngine, speech: Path, tmp_path: Path, multilingual: list[float]
) -> None:
    checkpoints = kept(tmp_path, speech)
    for language in ("en", "de", None):
        made = transcribe(engine, speech, checkpoints, language=language)
        assert {one.transcript for one in made.segments} == {f"Auf {language or 'de'}."}
    assert len(files(tmp_path)) == 3 * WINDOWS


def fill_gpu(patch: pytest.MonkeyPatch, from_s: float, is_full: Callable[[Decoder], bool]) -> None:
    """Make decoding behind ``from_s`` fail, as on a GPU that another program fills meanwhile."""
    decode = Decoder.decode

    def crowded(self: Decoder, chunks: Any, language: str) -> Any:
        if chunks and chunks[0].start_s >= from_s and is_full(self):
            raise OutOfGpuMemory("full")
        return decode(self, chunks, language)

    patch.setattr(Decoder, "decode", crowded)


@pytest.mark.parametrize("moved", [False, True])
def test_a_gpu_that_fills_up_midway_costs_no_finished_window(
    speech: Path,
    undisturbed: Transcript,
    tmp_path: Path,
    decoded_from: list[float],
    monkeypatch: pytest.MonkeyPatch,
    moved: bool,
) -> None:
    engine = WhisperEngine(device="cpu", threads=1, window_s=20)
    engine.prepare()
    before = engine._loaded
    assert before is not None
    fill_gpu(monkeypatch, 50, lambda used: used is before.decoder if moved else engine._loaded is before)
    checkpoints = kept(tmp_path, speech)
    made = with_room(engine, "cpu", lambda: transcribe(engine, speech, checkpoints), lambda: None)
    assert made.segments == undisturbed.segments
    assert made.warnings == ((RAN_ON_CPU,) if moved else ())
    early = [start_s for start_s in decoded_from if start_s < 30]
    assert len(early) == len(set(early)) > 1
    # The model that was left behind holds no memory, though tracebacks may hold it.
    assert before.decoder._model.model.model_is_loaded is not moved


def test_a_gpu_too_full_to_load_the_model_is_left_for_the_cpu(
    speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crowded(*arguments: object, **named: object) -> Any:
        if named["device"] == "full":
            raise RuntimeError("CUDA failed with error out of memory")
        return FasterWhisper(*arguments, **named)

    monkeypatch.setattr("faster_whisper.WhisperModel", crowded)
    engine = WhisperEngine(device="full", window_s=20)
    with pytest.raises(OutOfGpuMemory, match="no room"):
        with_room(engine, "retry", lambda: transcribe(engine, speech, NO_CHECKPOINTS), lambda: None)
    made = with_room(engine, "cpu", lambda: transcribe(engine, speech, NO_CHECKPOINTS), lambda: None)
    assert made.warnings == (RAN_ON_CPU,)
    assert made.segments
