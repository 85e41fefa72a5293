"""A transcript's row between steps: JSON, as mst has it and as checkpoints keep it."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from worker.engines.protocol import Segment
from worker.engines.sentences import spread


class Row(TypedDict):
    """One sentence, or one of Whisper's segments; times in seconds from the recording's start."""

    start: float
    end: float
    transcript: str
    speaker: NotRequired[str | None]


def in_order(rows: list[Row], duration_s: float) -> list[Row]:
    """Rows with text, in order, none overlapping, none of no length."""
    said = [row for row in rows if row["transcript"].strip()]
    segments = [Segment(row["start"], row["end"], row["transcript"].strip()) for row in said]
    return [
        {**row, "start": segment.start, "end": segment.end, "transcript": segment.transcript}
        for row, segment in zip(said, spread(segments, duration_s), strict=True)
    ]
