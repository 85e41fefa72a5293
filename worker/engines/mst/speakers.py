"""Who speaks when, and what they call themselves.

mst loses the first turn and every nested one, and shifts names to the next speaker where an introduction
has no name (MST_STOCK keeps the first).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.engines.mst.entities import PERSON
from worker.engines.mst.loading import swapped
from worker.engines.voice import RATE_HZ
from worker.sources.pcm import PcmReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.engines.mst.entities import Found
    from worker.engines.mst.loading import Models
    from worker.engines.mst.rows import Row

Turn = tuple[float, float, str]  # start and end in seconds, and the speaker's label

# Pyannote's long steps, and where they lie in its work.
_PARTS = {"segmentation": (0.0, 0.4), "embeddings": (0.4, 1.0)}


def hear_turns(recording: Path, pipeline: Any, tell: Callable[[float], None]) -> list[Turn]:
    """Turns in order, one speaker at a time. The recording is held in memory: 230 MB an hour."""
    import torch  # noqa: PLC0415  the child's alone

    with PcmReader(recording) as pcm:
        samples = np.ascontiguousarray(pcm.read(0, pcm.duration_s), dtype=np.float32)

    def hook(name: str, *_: object, total: Any = None, completed: Any = None, **__: object) -> None:
        first, last = _PARTS.get(name, (0.0, 0.0))
        part = min(1.0, float(completed) / float(total)) if total and completed is not None else 0.0
        tell(first + part * (last - first))

    # Samples, not the path: reading files, pyannote needs a library that often does not load.
    given = {"waveform": torch.from_numpy(samples)[None], "sample_rate": RATE_HZ, "uri": "recording"}
    heard = pipeline(given, hook=hook)
    turns = heard.exclusive_speaker_diarization.itertracks(yield_label=True)
    return sorted((float(turn.start), float(turn.end), str(who)) for turn, _, who in turns)


def assign(rows: list[Row], turns: list[Turn]) -> list[Row]:
    """Each row with the speaker who speaks longest in it; None where nobody does."""
    made: list[Row] = []
    first = 0
    for row in rows:
        while first < len(turns) and turns[first][1] <= row["start"]:
            first += 1
        made.append({**row, "speaker": _longest(row, turns, first)})
    return made


def _longest(row: Row, turns: list[Turn], first: int) -> str | None:
    seconds: dict[str, float] = {}
    for start, end, who in turns[first:]:
        if start >= row["end"]:
            break
        seconds[who] = seconds.get(who, 0.0) + max(0.0, min(end, row["end"]) - max(start, row["start"]))
    best = max(seconds, key=seconds.__getitem__, default=None)
    return best if best is not None and seconds[best] > 0 else None


def find_introductions(rows: list[Row], models: Models) -> list[bool]:
    """For each row, whether someone says who he is."""
    introductions = models.mst.introductions
    numbered = [{"transcript": row["transcript"], "number": number} for number, row in enumerate(rows)]
    with swapped(vars(introductions), "SetFitModel", _Loaded(models.introductions)):
        found = introductions.find_introductions("", numbered, config=models.config.introductions)
    said = {row["number"] for row in found}
    return [number in said for number in range(len(rows))]


def names_of(rows: list[Row], introductions: list[bool], found: list[Found]) -> dict[str, str]:
    """Each speaker's name: the one that he gives most often, or else first."""
    given: dict[str, Counter[str]] = {}
    for row, introduces, entities in zip(rows, introductions, found, strict=True):
        persons = [str(text) for label, text, _ in entities if label == PERSON]
        speaker = row.get("speaker")
        if introduces and persons and speaker:
            given.setdefault(speaker, Counter())[persons[0]] += 1
    return {speaker: names.most_common(1)[0][0] for speaker, names in given.items()}


class _Loaded:
    """In the place of a class whose models mst would load for each job."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def from_pretrained(self, _name: str) -> Any:
        return self._model
