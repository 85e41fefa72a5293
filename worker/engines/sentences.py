"""From Whisper's timed phrases to sentences with times.

Whisper times phrases, cut wherever it likes. Word times would need a second pass of its decoder (measured in
docs/engines.md); here a phrase's time is shared out by letters, which is off by a few tenths of a second
inside a phrase and exact at its ends. Pure functions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.engines.protocol import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MIN_SENTENCE_S = 0.1
BREAK_AT_PAUSE_S = 2.0  # a pause as long as this ends a sentence, whatever its punctuation
MAX_SENTENCE_S = 30.0  # text without full stops is broken at the first joint of phrases after this
# A blank parts words; so does a full stop of a script that writes no blanks.
_WORD = re.compile(r"[^\s。！？]+[。！？]*|[。！？]+")  # noqa: RUF001  full-width on purpose
_END = re.compile(r"[.!?…。！？]+[\"'”’)\]»]*$")  # noqa: RUF001  full-width on purpose
_ABBREVIATION = re.compile(
    r"^\W*(?:(?:mr|mrs|ms|dr|prof|st|sr|jr|vs|approx|e\.g|i\.e)|[a-z])\.$", re.IGNORECASE
)


@dataclass(frozen=True)
class Phrase:
    """Text said from ``start_s`` to ``end_s``, in seconds from the recording's start."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class _Word:
    start_s: float
    end_s: float
    text: str
    glued: bool  # nothing stands between it and the word before
    opens_phrase: bool


def to_sentences(phrases: Iterable[Phrase], duration_s: float) -> tuple[Segment, ...]:
    """Sentences in order, none overlapping, none shorter than MIN_SENTENCE_S, none past ``duration_s``.

    (A recording too short for that many of MIN_SENTENCE_S gets shorter ones, still in order and above zero.)
    """
    return tuple(spread([_as_segment(words) for words in _grouped(_words(phrases))], duration_s))


def _words(phrases: Iterable[Phrase]) -> Iterator[_Word]:
    """Each phrase's words, its time shared out by their letters."""
    for phrase in phrases:
        found = list(_WORD.finditer(phrase.text))
        letters = sum(len(match.group()) for match in found)
        each_s = max(0.0, phrase.end_s - phrase.start_s) / max(1, letters)
        at_s = phrase.start_s
        for index, match in enumerate(found):
            end_s = at_s + each_s * len(match.group())
            glued = match.start() > 0 and not phrase.text[match.start() - 1].isspace()
            yield _Word(at_s, end_s, match.group(), glued, opens_phrase=index == 0)
            at_s = end_s


def _grouped(words: Iterable[_Word]) -> Iterator[list[_Word]]:
    group: list[_Word] = []
    for word in words:
        if group and _ends_before(group, word):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _ends_before(group: Sequence[_Word], word: _Word) -> bool:
    last = group[-1]
    if word.start_s - last.end_s >= BREAK_AT_PAUSE_S:
        return True
    if word.opens_phrase and last.end_s - group[0].start_s >= MAX_SENTENCE_S:
        return True
    return bool(_END.search(last.text)) and not _ABBREVIATION.match(last.text)


def _as_segment(words: Sequence[_Word]) -> Segment:
    text = "".join(word.text if word.glued else f" {word.text}" for word in words)
    return Segment(words[0].start_s, words[-1].end_s, text.strip())


def spread(segments: Sequence[Segment], duration_s: float) -> Iterator[Segment]:
    """Push sentences apart where their times collide, leaving room for those that follow. In seconds."""
    least_s = min(MIN_SENTENCE_S, duration_s / max(1, len(segments)))
    free_s = 0.0
    for index, segment in enumerate(segments):
        room_s = duration_s - least_s * (len(segments) - index)
        start_s = max(free_s, min(segment.start, room_s))
        following_s = segments[index + 1].start if index + 1 < len(segments) else duration_s
        end_s = max(start_s + least_s, min(segment.end, following_s, room_s + least_s))
        free_s = end_s
        yield Segment(_rounded(start_s), _rounded(end_s), segment.transcript)


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
