"""Recordings of many kinds, uploaded in every way, through the whole service."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.sources.audio_files import encode, tone, video_without_sound

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service

FAST = {"ENGINE": "simulated", "SIMULATED_SCRIPT": json.dumps({"speed": 10_000})}


def test_every_kind_ends_in_a_transcript_or_a_clear_error(service: Service, tmp_path: Path) -> None:
    service.settings = {**FAST, "MAX_DURATION_S": "5"}
    worker = service.start_all()

    def posted(path: Path, content_type: str) -> str:
        answer = service.http.post(
            "/transcribe",
            content=path.read_bytes(),
            headers={"content-type": content_type},
            params={"priority": "high"},
        )
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        return str(answer.json()["task_id"])

    sounds = [
        encode(tmp_path / name, codec, tone(2, 48_000), 48_000)
        for name, codec in (("a.mp3", "libmp3lame"), ("a.mp4", "aac"), ("a.opus", "libopus"))
    ]
    good = [
        posted(sounds[0], "audio/mpeg"),
        posted(sounds[1], "video/mp4"),
        posted(sounds[2], "application/octet-stream"),
        service.submit(sounds[0]),
    ]
    (tmp_path / "a.txt").write_text("nothing to hear here")
    bad = {
        posted(tmp_path / "a.txt", "audio/mpeg"): ("not_audio", "no audio or video"),
        posted(video_without_sound(tmp_path / "b.mp4"), "video/mp4"): ("not_audio", "no audio track"),
        posted(encode(tmp_path / "long.mp3", "libmp3lame", tone(6, 48_000), 48_000), "audio/mpeg"): (
            "too_long",
            "MAX_DURATION_S",
        ),
    }
    for task_id in good:
        service.wait_for(task_id, "completed")
        assert service.download(task_id).json()["duration_s"] == pytest.approx(2, abs=0.15)
    for task_id, (code, told) in bad.items():
        error = service.wait_for(task_id, "failed")["error"]
        assert (error["code"], error["step"]) == (code, "convert")
        assert told in error["message"]
    assert worker.popen.poll() is None
