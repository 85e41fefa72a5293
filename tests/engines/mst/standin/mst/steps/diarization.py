"""Step 5: loses the first turn (D2) and every error (D3)."""

from __future__ import annotations

from typing import Any

import torch
from pyannote.audio import Pipeline
from standin_orders import asked, say

from mst.config import DiarizationConfig

from .caching import cached_file_object

_diarization_pipelines: dict[str, Any] = {}


def get_diarization_pipeline(config: DiarizationConfig | None = None) -> Any:
    told = config or DiarizationConfig()
    if told.diarization_model not in _diarization_pipelines:
        pipeline: Any = Pipeline.from_pretrained(told.diarization_model, token=told.hf_token)
        pipeline.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        _diarization_pipelines[told.diarization_model] = pipeline
    return _diarization_pipelines[told.diarization_model]


@cached_file_object(".diarization")
def identify_speakers(video_path: str, transcript: Any, config: DiarizationConfig | None = None) -> Any:
    asked("identify_speakers", path=video_path)
    try:
        heard = get_diarization_pipeline(config)(video_path)
        turns = [
            {"start": turn.start, "end": turn.end, "speaker": speaker} for turn, speaker in _own_pairs(heard)
        ]
        busy_s, kept = turns[0]["end"], []
        for turn in turns[1:]:
            if turn["start"] >= busy_s:
                kept.append(turn)
            busy_s = max(busy_s, turn["end"])
    except Exception as exc:  # noqa: BLE001  the defects D3 and D28
        say(f"Error in speaker identification: {exc}")
        return {}
    return kept


def _own_pairs(heard: Any) -> list[Any]:
    """Of what can be iterated itself, or has tracks, or has them as ``speaker_diarization``."""
    if hasattr(heard, "__iter__"):
        return list(heard)
    if hasattr(heard, "itertracks"):
        return [(turn, who) for turn, _, who in heard.itertracks(yield_label=True)]
    return list(heard.speaker_diarization)
