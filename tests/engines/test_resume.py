"""An attempt after a kill goes on where the first one was, and comes to the same result."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.engines.spoken import human
from tests.sources.audio_files import write_ready
from worker.engines.checkpoints import NO_CHECKPOINTS, FolderCheckpoints, recording_id
from worker.engines.decoding import Decoder
from worker.engines.protocol import Options, Transcript
from worker.engines.whisper import WhisperEngine
from worker.sources.convert import convert
from worker.sources.pcm import PcmReader

if TYPE_CHECKING:
    from collections.abc import Iterator

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
def engine() -> WhisperEngine:
    made = WhisperEngine(device="cpu", window_s=20)
    made.prepare()
    return made


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twice 44 s of speech with silence between: five windows."""
    folder = tmp_path_factory.mktemp("speech")
    once = convert(human("two_cities.wav"), folder / "once.wav")
    with PcmReader(once.path) as pcm:
        audio = (pcm.read(0, 60) * 32767).astype(np.int16)
    return write_ready(folder / "twice.wav", np.concatenate([audio, np.zeros(16_000, np.int16), audio]))


@pytest.fixture(scope="module")
def undisturbed(engine: WhisperEngine, speech: Path) -> Transcript:
    return transcribe(engine, speech, NO_CHECKPOINTS)


@pytest.fixture
def decoded_from(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Where in the recording the chunks were that have been decoded."""
    found: list[float] = []
    decode = Decoder.decode

    def noted(self: Decoder, chunks: Any, language: str) -> Any:
        found.extend(chunk.start_s for chunk in chunks)
        return decode(self, chunks, language)

    monkeypatch.setattr(Decoder, "decode", noted)
    return found


def transcribe(engine: WhisperEngine, path: Path, checkpoints: Any, **options: Any) -> Transcript:
    return engine.transcribe(path, Options(**options), lambda _: None, lambda: None, checkpoints)


def kept(folder: Path, recording: Path) -> FolderCheckpoints:
    return FolderCheckpoints(folder / "checkpoints", {"recording": recording_id(recording)})


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("window-*.json"))


@pytest.mark.parametrize("windows", range(1, WINDOWS + 1))
def test_a_run_killed_behind_any_window_is_continued_there(
    engine: WhisperEngine,
    speech: Path,
    undisturbed: Transcript,
    tmp_path: Path,
    decoded_from: list[float],
    windows: int,
) -> None:
    arguments = [str(speech), str(tmp_path / "checkpoints"), recording_id(speech), str(windows)]
    killed = subprocess.run([sys.executable, "-c", VICTIM, *arguments], cwd=ROOT, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    checkpoints = kept(tmp_path, speech)
    assert len(files(tmp_path)) == windows
    assert transcribe(engine, speech, checkpoints) == undisturbed
    assert len(files(tmp_path)) == WINDOWS
    least_s = 15 * windows  # a window of 20 s is cut in its last eighth
    assert min(decoded_from, default=least_s) >= least_s


def test_what_was_kept_for_another_recording_or_language_or_by_another_engine_is_not_used(
    engine: WhisperEngine, speech: Path, tmp_path: Path, decoded_from: list[float]
) -> None:
    transcribe(engine, speech, kept(tmp_path, speech))
    decoded_from.clear()
    other = FolderCheckpoints(tmp_path / "checkpoints", {"recording": "another's"})
    longer = WhisperEngine(device="cpu", window_s=30)
    for run in (
        lambda: transcribe(engine, speech, other),
        lambda: transcribe(longer, speech, kept(tmp_path, speech)),
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
    assert engine.relieve()
    assert transcribe(engine, speech, kept(tmp_path, speech)).segments == undisturbed.segments
    assert not engine.relieve()
    engine.move_to_cpu()
    assert transcribe(engine, speech, kept(tmp_path, speech)).segments == undisturbed.segments
