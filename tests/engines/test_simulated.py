"""The simulated engine behaves, and misbehaves to order, in processes of its own."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.sources.audio_files import write_ready
from worker.engines.checkpoints import NO_CHECKPOINTS
from worker.engines.protocol import Options, Progress
from worker.engines.simulated import SimulatedEngine
from worker.errors import EngineFailed, EngineUnavailable

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_ready(tmp_path / "in.wav", np.zeros(16_000 * 12, np.int16))


def run(recording: Path, **script: object) -> list[Progress]:
    reports: list[Progress] = []
    engine = SimulatedEngine.from_script(json.dumps(script))
    engine.prepare()
    engine.transcribe(recording, Options(), reports.append, lambda: None, NO_CHECKPOINTS)
    return reports


def start(recording: Path, **script: object) -> subprocess.Popen[str]:
    """A process that runs the engine and prints a line at each report."""
    code = f"""
from pathlib import Path
from worker.engines.checkpoints import NO_CHECKPOINTS
from worker.engines.protocol import Options
from worker.engines.simulated import SimulatedEngine
engine = SimulatedEngine.from_script({json.dumps(script)!r})
recording = Path({str(recording)!r})
engine.transcribe(recording, Options(), lambda p: print(p.fraction, flush=True), lambda: None, NO_CHECKPOINTS)
"""
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_text_follows_from_the_recording_alone(recording: Path) -> None:
    engine = SimulatedEngine.from_script("")
    made = [
        engine.transcribe(recording, Options(), lambda _: None, lambda: None, NO_CHECKPOINTS)
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert [segment.transcript for segment in made[0].segments][-1] == "This is sentence 3 of 3."
    assert [(segment.start, segment.end) for segment in made[0].segments] == [(0, 5), (5, 10), (10, 12)]


def test_progress_grows_to_the_end(recording: Path) -> None:
    fractions = [report.fraction for report in run(recording, speed=40)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert len(fractions) > 3


def test_cancelling_stops_it(recording: Path) -> None:
    checks = itertools.count()

    def check() -> None:
        if next(checks) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SimulatedEngine().transcribe(recording, Options(), lambda _: None, check, NO_CHECKPOINTS)


def test_it_fails_to_order(recording: Path) -> None:
    with pytest.raises(EngineFailed):
        run(recording, speed=1000, misbehave="raise")
    with pytest.raises(RuntimeError):
        run(recording, speed=1000, misbehave="crash")


def test_once_means_once(recording: Path, tmp_path: Path) -> None:
    script = {"speed": 1000, "misbehave": "raise", "once": str(tmp_path / "marker")}
    with pytest.raises(EngineFailed):
        run(recording, **script)
    assert run(recording, **script)[-1].fraction == 1


@pytest.mark.parametrize(("how", "code"), [("exit", 3), ("kill", -signal.SIGKILL)])
def test_it_dies_to_order(recording: Path, how: str, code: int) -> None:
    with start(recording, speed=1000, misbehave=how) as process:
        process.communicate()
    assert process.returncode == code


def test_it_fills_memory_and_goes_on(recording: Path) -> None:
    assert run(recording, speed=1000, misbehave="fill_memory", mib=32, at=0)[-1].fraction == 1


@pytest.mark.parametrize(("how", "deaf"), [("hang", False), ("hang_stubbornly", True)])
def test_it_hangs_to_order(recording: Path, how: str, deaf: bool) -> None:
    with start(recording, speed=1000, misbehave=how, at=0) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.terminate()
        if deaf:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            process.kill()
        process.wait(10)
    assert process.returncode == (-signal.SIGKILL if deaf else -signal.SIGTERM)


def test_a_script_may_be_a_file(tmp_path: Path, recording: Path) -> None:
    (tmp_path / "script.json").write_text('{"speed": 500}')
    assert SimulatedEngine.from_script(str(tmp_path / "script.json")).script.speed == 500


@pytest.mark.parametrize(
    "text",
    ["/no/such/file", "{", '{"sped": 1}', '{"misbehave": "dance"}', '{"speed": 0}', '{"speed": "fast"}'],
)
def test_a_bad_script_is_refused(text: str) -> None:
    with pytest.raises(EngineUnavailable, match="SIMULATED_SCRIPT"):
        SimulatedEngine.from_script(text)
