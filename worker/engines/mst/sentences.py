"""Whisper's segments to spaCy's sentences, each with its own time.

mst glues segments together without a blank, and finds times by positions that drift (MST_STOCK).
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from worker.engines.mst.rows import Row, in_order
from worker.engines.sentences import BREAK_AT_PAUSE_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# spaCy refuses a million characters, and needs a gigabyte for so many.
PIECE_CHARACTERS = 100_000


def to_sentences(segments: Sequence[Row], nlp: Any, duration_s: float) -> list[Row]:
    """``nlp`` is spaCy's: it gives a document with ``sents``."""
    rows: list[Row] = []
    for piece in _pieces(segments):
        text = _Timed.of(piece)
        spans = [(sent.start_char, sent.end_char) for sent in nlp(text.whole).sents]
        rows += [text.row(start, end) for start, end in _cut(spans, text.breaks)]
    return in_order(rows, duration_s)


def _pieces(segments: Sequence[Row]) -> Iterator[list[Row]]:
    """Runs of segments that end where a sentence may end."""
    piece: list[Row] = []
    length = 0
    for segment in segments:
        if length >= PIECE_CHARACTERS and piece[-1]["transcript"].rstrip().endswith((".", "?", "!")):
            yield piece
            piece, length = [], 0
        piece.append(segment)
        length += len(segment["transcript"]) + 1
    if piece:
        yield piece


def _cut(spans: Iterable[tuple[int, int]], breaks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The spans, parted at breaks, too."""
    for start, end in spans:
        inside = breaks[bisect_right(breaks, start) : bisect_right(breaks, end - 1)]
        bounds = [start, *inside, end]
        yield from itertools.pairwise(bounds)


@dataclass
class _Timed:
    """Segments joined by blanks; ``breaks`` are where a long pause ends a sentence whatever its stops."""

    whole: str = ""
    breaks: list[int] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _segments: list[Row] = field(default_factory=list)

    @classmethod
    def of(cls, segments: Iterable[Row]) -> _Timed:
        made = cls()
        texts: list[str] = []
        at = 0
        for segment in segments:
            text = segment["transcript"].strip()
            if made._segments and segment["start"] - made._segments[-1]["end"] >= BREAK_AT_PAUSE_S:
                made.breaks.append(at)
            made._starts.append(at)
            made._segments.append(segment)
            texts.append(text)
            at += len(text) + 1
        made.whole = " ".join(texts)
        return made

    def row(self, start: int, end: int) -> Row:
        text = self.whole[start:end]
        first = start + len(text) - len(text.lstrip())
        last = first + len(text.strip())
        return {"start": self._time(first), "end": self._time(last - 1, ahead=1), "transcript": text.strip()}

    def _time(self, at: int, ahead: int = 0) -> float:
        """When the character at ``at`` begins, or ends (``ahead`` 1), by its share of its segment."""
        index = max(0, bisect_right(self._starts, at) - 1)
        segment = self._segments[index]
        length = max(1, len(segment["transcript"].strip()))
        share = min(1.0, (at + ahead - self._starts[index]) / length)
        return segment["start"] + share * (segment["end"] - segment["start"])
