"""Cuts running text into captions of one or two short lines. Pure functions; knows no times.

Text of scripts that write no blanks (Chinese, Japanese) is cut between any two signs that may be parted;
their signs take two columns, as on a terminal, so a line holds 21 of them.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE_COLUMNS = 42  # the customary limit of broadcasters for Latin scripts
_JOINER = "\u200d"
_SENTENCE_END = frozenset(".!?…。！？")  # noqa: RUF001  full-width on purpose
_CLAUSE_END = frozenset(",;:–—、，；：")  # noqa: RUF001  full-width on purpose
_CLOSING_QUOTES = "\"'”’)]»」』）"  # noqa: RUF001  full-width on purpose
# What a line may not begin with, and what it may not end with, between signs without blanks.
_NO_START = frozenset(
    "。、，．！？：；）」』】〉》〕…‥ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ"  # noqa: RUF001  full-width on purpose
)
_NO_END = frozenset("（「『【〈《〔")  # noqa: RUF001  full-width on purpose
# What an end costs, beside the square of how far the caption is from the length that was aimed at.
_AFTER_CLAUSE, _AFTER_WORD, _INSIDE_WORD = 0.05, 0.3, 1.0


@dataclass(frozen=True)
class _Piece:
    """Text that is never cut. ``spaced``: a blank stands before it; ``cost``: of a cut after it."""

    text: str
    spaced: bool
    cost: float

    @property
    def columns(self) -> int:
        return columns(self.text)


def clean(text: str) -> str:
    """On one line: blanks united, control characters and halves of surrogate pairs dropped."""
    return " ".join(_printable(text).split())


def join(sentences: list[str]) -> str:
    """Running text of cleaned sentences, with a blank between them where their script writes one."""
    text = ""
    for sentence in filter(None, sentences):
        glued = not text or (_needs_no_blank(text[-1]) and _needs_no_blank(sentence[0]))
        text += sentence if glued else f" {sentence}"
    return text


def columns(text: str) -> int:
    return sum(_columns(sign) for sign in text)


def to_captions(text: str, *, at_least: int = 1, used: int = 0) -> list[tuple[str, ...]]:
    """The text as captions of at most two lines each, of much the same length, cut where the text pauses.

    Args:
        text: Cleaned.
        at_least: How many captions to aim at, however short they are.
        used: Columns of each caption's first line that are taken. That line may stay empty for it.
    """
    pieces = [piece for word in text.split(" ") for piece in _cut_word(word)]
    ruler = _Ruler(pieces, used)
    ends = _best_ends(pieces, ruler, at_least)
    return [ruler.lines(start, end) for start, end in zip([0, *ends], ends, strict=False)]


class _Ruler:
    """Measures stretches of pieces; a stretch is from ``start`` to before ``end``."""

    def __init__(self, pieces: list[_Piece], used: int) -> None:
        self._pieces = pieces
        self._used = used
        self._ends = [0, *accumulate(piece.columns + piece.spaced for piece in pieces)]

    @property
    def total(self) -> int:
        return self._ends[-1]

    @property
    def room(self) -> int:
        """Columns of one caption."""
        return 2 * LINE_COLUMNS - self._used

    def columns(self, start: int, end: int) -> int:
        return self._ends[end] - self._ends[start] - (start < end and self._pieces[start].spaced)

    def longest_line(self, start: int) -> int:
        """Where a caption's first line ends that begins at ``start`` and holds all it can."""
        end = start
        while end < len(self._pieces) and self.columns(start, end + 1) <= LINE_COLUMNS - self._used:
            end += 1
        return end

    def lines(self, start: int, end: int) -> tuple[str, ...]:
        """One line if it fits, else two of much the same length."""
        if self._used + self.columns(start, end) <= LINE_COLUMNS:
            return (self._text(start, end),)
        middle = min(
            (cut for cut in range(start, end) if self._fits(start, cut, end)),
            key=lambda cut: self._unevenness(start, cut, end),
        )
        return self._text(start, middle), self._text(middle, end)

    def _fits(self, start: int, cut: int, end: int) -> bool:
        first, second = self._used + self.columns(start, cut), self.columns(cut, end)
        return max(first, second) <= LINE_COLUMNS

    def _unevenness(self, start: int, cut: int, end: int) -> float:
        difference = self._used + self.columns(start, cut) - self.columns(cut, end)
        cost = self._pieces[cut - 1].cost if cut > start else _INSIDE_WORD
        return abs(difference) / LINE_COLUMNS + cost

    def _text(self, start: int, end: int) -> str:
        text = "".join(f" {piece.text}" if piece.spaced else piece.text for piece in self._pieces[start:end])
        return text.removeprefix(" ")


def _best_ends(pieces: list[_Piece], ruler: _Ruler, at_least: int) -> list[int]:
    """Where each caption ends, by the least sum of costs over all ways to cut (dynamic programming)."""
    aim = max(1.0, ruler.total / max(at_least, -(-ruler.total // ruler.room)))
    best: list[tuple[float, int]] = [(0.0, 0)] + [(float("inf"), 0)] * len(pieces)
    for start in range(len(pieces)):
        for end in _reachable(ruler, start, len(pieces)):
            off = (ruler.columns(start, end) - aim) / aim
            cost = best[start][0] + off * off + pieces[end - 1].cost
            best[end] = min(best[end], (cost, start))
    ends = []
    end = len(pieces)
    while end:
        ends.append(end)
        end = best[end][1]
    return ends[::-1]


def _reachable(ruler: _Ruler, start: int, count: int) -> Iterator[int]:
    """The ends of every caption that begins at ``start`` and fits."""
    middle = ruler.longest_line(start)
    yield from range(start + 1, middle + 1)
    for end in range(middle + 1, count + 1):
        if ruler.columns(middle, end) > LINE_COLUMNS:
            return
        yield end


def _cut_word(word: str) -> Iterator[_Piece]:
    """A word's pieces: itself, or its signs where its script writes no blanks; none longer than a line."""
    start = 0
    for end in range(1, len(word) + 1):
        open_end = end < len(word) and not _may_part(word, end)
        if not open_end or columns(word[start : end + 1]) > LINE_COLUMNS:
            yield _Piece(word[start:end], start == 0, _INSIDE_WORD if open_end else _cost_after(word, end))
            start = end


def _cost_after(word: str, end: int) -> float:
    last = word[max(0, end - 3) : end].rstrip(_CLOSING_QUOTES)[-1:]
    if last in _SENTENCE_END:
        return 0.0
    return _AFTER_CLAUSE if last in _CLAUSE_END else _AFTER_WORD


def _may_part(word: str, at: int) -> bool:
    before, after = word[at - 1], word[at]
    if not (_needs_no_blank(before) or _needs_no_blank(after)):
        return False
    # No cut inside a sign that is made of several, nor where the script's own rules forbid one.
    return before not in _NO_END | {_JOINER} and after not in _NO_START and _columns(after) > 0


def _needs_no_blank(sign: str) -> bool:
    """Whether the sign's script writes no blanks. Korean does, though its signs are as wide."""
    return _is_wide(sign) and not "\uac00" <= sign <= "\ud7a3"


def _is_wide(sign: str) -> bool:
    return unicodedata.east_asian_width(sign) in {"W", "F"}


def _columns(sign: str) -> int:
    if unicodedata.category(sign) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if _is_wide(sign) else 1


def _printable(text: str) -> str:
    return "".join(sign for sign in text if sign.isspace() or unicodedata.category(sign) not in {"Cc", "Cs"})
