"""Steps 8 and 9: who gives his name, and whose turn that was. The model is loaded anew each time (D25)."""

from __future__ import annotations

from typing import Any

from setfit import SetFitModel
from standin_orders import asked, say

from mst.config import IntroductionsConfig

from .caching import cached_file_object
from .entities import extract_persons


@cached_file_object(".introductions")
def find_introductions(video_path: str, transcripts: Any, config: IntroductionsConfig | None = None) -> Any:
    asked("find_introductions")
    try:
        model = SetFitModel.from_pretrained((config or IntroductionsConfig()).setfit_model)
        labels = model.predict([row["transcript"] for row in transcripts])
        return [row for row, label in zip(transcripts, labels, strict=False) if label == "introduction"]
    except Exception as exc:
        say(f"Error extracting speaker introductions: {exc}")
        raise


def speaker_to_name(introductions: Any) -> dict[Any, str]:
    """The last one wins (D23)."""
    return {
        row["matched_speaker"]: "UNKNOWN" if row["matched_speaker"] == "UNKNOWN" else row["speaker_name"]
        for row in introductions
    }


def map_entities_to_speakers(
    video_path: str, ner_data: Any, diarization_data: Any, margin: float = 0.5
) -> list[dict[str, Any]]:
    """The margin is of no effect: only a real overlap counts (D23). No overlap: the speaker is None."""
    return [_own_matched(row, diarization_data) for row in ner_data]


def _own_matched(row: dict[str, Any], turns: Any) -> dict[str, Any]:
    best, longest = None, 0.0
    for turn in turns:
        overlap = round(max(0.0, min(row["end"], turn["end"]) - max(row["start"], turn["start"])), 2)
        if overlap > longest:
            best, longest = turn["speaker"], overlap
    return {**row, "matched_speaker": best, "overlap_duration": longest}


@cached_file_object(".speaker_map")
def create_speaker_map(
    video_path: str,
    speaker_introductions: Any,
    speaker_mapping: Any,
    config: IntroductionsConfig | None = None,
) -> dict[Any, str]:
    asked("create_speaker_map")
    margin = (config or IntroductionsConfig()).speaker_map_margin
    named = extract_persons(speaker_introductions)
    return speaker_to_name(map_entities_to_speakers(video_path, named, speaker_mapping, margin))
