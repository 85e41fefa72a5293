"""Step 1: every error is silence to the caller (D4, D28); the last segment keeps its blanks (D6)."""

from __future__ import annotations

import logging
from typing import Any

from faster_whisper import WhisperModel
from standin_orders import asked, say

from mst.config import TranscriptionConfig

from .caching import cached_file_object

_whisper_models: dict[str, Any] = {}


def get_whisper_model(model_name: str = "distil-large-v3") -> Any:
    if model_name not in _whisper_models:
        model = WhisperModel(model_name)
        model.logger.setLevel(logging.WARNING)
        _whisper_models[model_name] = model
    return _whisper_models[model_name]


@cached_file_object(".raw_transcript")
def initial_transcription(video_path: str, config: TranscriptionConfig | None = None) -> Any:
    asked("initial_transcription", path=video_path)
    try:
        segments, _ = get_whisper_model((config or TranscriptionConfig()).whisper_model).transcribe(
            video_path
        )
        rows: list[dict[str, Any]] = []
        for segment in segments:
            if rows and rows[-1]["transcript"] == segment.text:
                rows[-1]["end"] = segment.end
            else:
                rows.append({"start": segment.start, "end": segment.end, "transcript": segment.text})
        return [row | {"transcript": row["transcript"].strip()} for row in rows[:-1]] + rows[-1:]
    except Exception as exc:  # noqa: BLE001  the defects D4 and D28
        say(f"Error in initial transcription: {exc}")
        return None
