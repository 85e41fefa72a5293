"""Whisper's segments to spaCy's sentences, each with its own time.

mst glues segments together without a blank, and finds times by positions that drift (MST_STOCK).
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from worker.engines.mst.rows import Row, in_order
from worker.engines.sentences import BREAK_AT_PAUSE_S, MAX_SENTENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# spaCy refuses a million characters, and needs a gigabyte for so many.
PIECE_CHARACTERS = 100_000
_ENDS = (".", "?", "!", "…", "。", "！", "？", "।", "؟", "።")  # noqa: RUF001  of other scripts, on purpose
_UNKNOWN_ENDS = _ENDS[4:]  # an English model passes over these


def to_sentences(segments: Sequence[Row], nlp: Any, duration_s: float) -> list[Row]:
    """``nlp`` is spaCy's: it gives a document with ``sents``."""
    rows: list[Row] = []
    for piece in _pieces(segments):
        text = _Timed.of(piece)
        spans = [(sent.start_char, sent.end_char) for sent in nlp(text.whole).sents]
        rows += [row for start, end in _cut(spans, text.breaks) for row in text.rows(start, end)]
    return in_order(rows, duration_s)


def _pieces(segments: Sequence[Row]) -> Iterator[list[Row]]:
    """Runs of segments that end where a sentence may end."""
    piece: list[Row] = []
    length = 0
    for segment in segments:
        ends = piece and piece[-1]["transcript"].rstrip().endswith(_ENDS)
        if length >= 2 * PIECE_CHARACTERS or (length >= PIECE_CHARACTERS and ends):
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


def _parts(one: Row, following: Row) -> bool:
    pause_s = following["start"] - one["end"]
    return pause_s >= BREAK_AT_PAUSE_S or one["transcript"].rstrip().endswith(_UNKNOWN_ENDS)


@dataclass
class _Timed:
    """Segments joined by blanks; at ``breaks`` a sentence ends whatever spaCy says.

    That is behind a long pause, and behind a full stop that only Whisper knows.
    """

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
            if made._segments and _parts(made._segments[-1], segment):
                made.breaks.append(at)
            made._starts.append(at)
            made._segments.append(segment)
            texts.append(text)
            at += len(text) + 1
        made.whole = " ".join(texts)
        return made

    def rows(self, start: int, end: int) -> Iterator[Row]:
        """The sentence, in parts of some MAX_SENTENCE_S where it never ends: cut where segments meet."""
        first = bisect_right(self._starts, start)
        for joint, segment in zip(self._starts[first:], self._segments[first:], strict=True):
            if joint >= end:
                break
            if segment["end"] - self._time(start) > MAX_SENTENCE_S:
                yield self.row(start, joint)
                start = joint
        yield self.row(start, end)

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
