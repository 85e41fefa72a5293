"""Steps 6, 7 and 10: who said what."""

from __future__ import annotations

from typing import Any

from standin_orders import asked

from .caching import cached_file_object


@cached_file_object(".merged")
def merge_transcript_diarization(video_path: str, transcript: Any, diarization: Any) -> Any:
    """Rows end where either side ends (D10); some are lost (D9); without turns they have no speakers (D3)."""
    asked("merge_transcript_diarization")
    said = sorted(transcript, key=lambda row: row["start"])
    turns = sorted(diarization, key=lambda row: row["start"])
    if not said or not turns:
        return transcript or []
    now = min(said[0]["start"], turns[0]["start"])
    limit = max(said[-1]["end"], turns[-1]["end"])
    rows = []
    while now < limit and (said or turns):
        end = min(side[0]["end"] for side in (said, turns) if side)
        rows.append(_own_row(now, end, said[0] if said else None, turns[0] if turns else None))
        said, turns = (side[1:] if side and end >= side[0]["end"] else side for side in (said, turns))
        now = end
    return rows


def _own_row(start: float, end: float, said: Any, turn: Any) -> dict[str, Any]:
    text, speaker = "[SILENCE]", "UNKNOWN"
    if said is None or (turn and turn["end"] < said["start"]):
        speaker = turn["speaker"]
    else:
        text = said["transcript"]
        if turn and turn["start"] <= said["end"] and turn["end"] >= said["start"]:
            speaker = turn["speaker"]
    return {"start": start, "end": end, "transcript": text, "speaker": speaker, "duration": end - start}


@cached_file_object(".compressed")
def compress_transcript(video_path: str, entries: Any) -> list[dict[str, Any]]:
    """Neighbours with the same text become one, real repetitions too (D9); KeyError where D3 struck."""
    asked("compress_transcript")
    rows: list[dict[str, Any]] = []
    longest = 0.0
    for entry in entries or []:
        length = entry["duration"]
        if rows and rows[-1]["transcript"] == entry["transcript"] and rows[-1]["end"] == entry["start"]:
            rows[-1] |= {"end": entry["end"], "duration": rows[-1]["duration"] + length}
            if length > longest:
                longest = length
                rows[-1]["speaker"] = entry["speaker"]
        else:
            longest = length
            rows.append(dict(entry))
    return [row | {"duration": round(row["duration"], 2)} for row in rows]


@cached_file_object(".final")
def map_speakers(video_path: str, transcripts: Any, speaker_to_name: dict[str, str]) -> list[dict[str, Any]]:
    asked("map_speakers")
    return [
        row | {"speaker_name": speaker_to_name.get(row["speaker"], row["speaker"])} for row in transcripts
    ]


def flatten_texts(input_dict: dict[str, list[dict[str, Any]]]) -> list[str]:
    return [entity["text"] for entities in input_dict.values() for entity in entities]
