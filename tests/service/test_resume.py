"""A long job whose worker dies late does not begin anew."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import numpy as np

from tests.engines.spoken import human, samples
from tests.sources.audio_files import write_ready
from worker.sources.convert import convert

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service


def long_recording(folder: Path) -> Path:
    """Nine minutes of speech: four windows of the engine."""
    audio = samples(convert(human("two_cities.wav"), folder / "once.wav").path)
    return write_ready(folder / "long.wav", np.tile(audio, 12))


def test_the_next_attempt_goes_on_behind_the_last_window(service: Service, tmp_path: Path) -> None:
    worker = service.start_all()
    task_id = service.submit(long_recording(tmp_path))
    job = service.cache / "jobs" / task_id
    service.wait(lambda: list(job.rglob("window-000001.json")), 60, "two windows to be kept")
    for child in worker.children():
        child.send_signal(signal.SIGKILL)
    status = service.wait_for(task_id, "completed", 120)
    assert status["attempt"] == 2
    assert '"windows_resumed"' in worker.log
    segments = service.http.get(f"/download/{task_id}", params={"fmt": "json"}).json()["segments"]
    assert sum("best of times" in segment["transcript"] for segment in segments) == 12
    assert len(list(job.iterdir())) == 1
