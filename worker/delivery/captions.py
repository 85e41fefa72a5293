"""The result document as captions (SubRip, WebVTT) and as plain text.

Composed here and not by a library: the formats are a dozen lines, and those at hand escape nothing. A
caption stays for at least MIN_MS and at most MAX_MS where its neighbours leave room; captions never overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from worker.delivery.markdown import turn_key
from worker.delivery.wrapping import LINE_COLUMNS, clean, columns, join, to_captions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.delivery.document import Document, Segment

MIN_MS = 800
MAX_MS = 7000
_SHORTEST_COLUMNS = 20  # slow speech is not cut into captions shorter than this
_ENDLESS_MS = 2**53


@dataclass(frozen=True)
class Caption:
    """``end_ms`` is greater than ``start_ms``; one or two lines, of which the first may be empty."""

    start_ms: int
    end_ms: int
    speaker: str
    lines: tuple[str, ...]


def to_srt(document: Document) -> str:
    """SubRip; who speaks stands before each caption. It has no escapes: an arrow in a text is shortened."""
    captions = _captions(document, names_in_text=True)
    return "".join(_srt_cue(number, caption) for number, caption in enumerate(captions, 1))


def to_vtt(document: Document) -> str:
    """WebVTT; who speaks is the caption's voice, which players show or style."""
    return "WEBVTT\n" + "".join(_vtt_cue(caption) for caption in _captions(document, names_in_text=False))


def to_txt(document: Document) -> str:
    """A paragraph a turn, under its topic's headline."""
    paragraphs = list(_paragraphs(document)) or ["No speech was found in this recording."]
    return "\n\n".join(paragraphs) + "\n"


def shares_ms(total_ms: int, weights: Sequence[int]) -> list[int]:
    """The time shared out by weight; nobody gets less than MIN_MS if there is enough for all.

    The shares sum up to ``total_ms``, which is at least one for each.
    """
    shares = _by_weight(total_ms, weights, floor=1)
    if min(shares) >= MIN_MS or total_ms < MIN_MS * len(shares):
        return shares
    return _by_weight(total_ms, weights, floor=MIN_MS)


def _by_weight(total_ms: int, weights: Sequence[int], *, floor: int) -> list[int]:
    """``floor`` for each, and of what is left by weight, rounded so that nothing is lost."""
    left, heavy = total_ms - floor * len(weights), max(1, sum(weights))
    done, marks = 0, [0]
    for weight in weights:
        done += weight
        marks.append(left * done // heavy)
    marks[-1] = left
    return [floor + after - before for before, after in pairwise(marks)]


def _captions(document: Document, *, names_in_text: bool) -> Iterator[Caption]:
    spoken = sorted((s for s in document.segments if clean(s.transcript)), key=lambda s: s.start)
    starts = [_ms(segment.start) for segment in spoken]
    free_ms = 0
    for segment, limit_ms in zip(spoken, [*starts[1:], _ENDLESS_MS], strict=False):
        for caption in _of_segment(segment, free_ms, limit_ms, names_in_text=names_in_text):
            free_ms = caption.end_ms
            yield caption


def _of_segment(segment: Segment, free_ms: int, limit_ms: int, *, names_in_text: bool) -> Iterator[Caption]:
    """A sentence's captions, none before ``free_ms``, none after ``limit_ms`` unless it leaves no room."""
    start_ms = max(free_ms, _ms(segment.start))
    said_ms = max(1, _ms(segment.end) - start_ms)
    speaker = _shortened(clean(segment.speaker_name or ""))
    used = columns(f"{speaker}: ") if speaker and names_in_text else 0
    texts = _cut(clean(segment.transcript), said_ms, used)
    room_ms = max(len(texts), limit_ms - start_ms)
    shown_ms = max(len(texts), min(max(said_ms, MIN_MS * len(texts)), room_ms))
    for lines, share_ms in zip(texts, shares_ms(shown_ms, [_weight(lines) for lines in texts]), strict=True):
        yield Caption(start_ms, start_ms + min(share_ms, MAX_MS), speaker, lines)
        start_ms += share_ms


def _cut(text: str, said_ms: int, used: int) -> list[tuple[str, ...]]:
    wanted = min(-(-said_ms // MAX_MS), columns(text) // _SHORTEST_COLUMNS)
    return to_captions(text, at_least=max(1, wanted), used=used)


def _weight(lines: tuple[str, ...]) -> int:
    return sum(map(len, lines))


def _shortened(name: str) -> str:
    """A name that leaves the line's width for its colon."""
    if columns(name) <= LINE_COLUMNS - 2:
        return name
    kept = next(end for end in range(len(name), 0, -1) if columns(name[:end]) <= LINE_COLUMNS - 3)
    return name[:kept] + "…"


def _srt_cue(number: int, caption: Caption) -> str:
    first, *rest = caption.lines
    lines = [f"{caption.speaker}: {first}".rstrip() if caption.speaker else first, *rest]
    times = f"{_clock(caption.start_ms, ',')} --> {_clock(caption.end_ms, ',')}"
    text = "\n".join(lines).replace("-->", "->")
    return f"{number}\n{times}\n{text}\n\n"


def _vtt_cue(caption: Caption) -> str:
    voice = f"<v {_escaped(caption.speaker)}>" if caption.speaker else ""
    times = f"{_clock(caption.start_ms, '.')} --> {_clock(caption.end_ms, '.')}"
    text = "\n".join(map(_escaped, caption.lines))
    return f"\n{times}\n{voice}{text}\n"


def _escaped(text: str) -> str:
    """As WebVTT shows it unchanged; without ``>`` there is no arrow either."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(ms: int, point: str) -> str:
    seconds = ms // 1000
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{ms % 1000:03}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _paragraphs(document: Document) -> Iterator[str]:
    for topic, of_topic in groupby(document.segments, key=lambda segment: segment.topic):
        if topic is not None and topic < len(document.topics):
            yield clean(document.topics[topic].headline)
        for heading, spoken in groupby(of_topic, key=turn_key(document)):
            text = join([clean(segment.transcript) for segment in spoken])
            if text:
                yield f"{clean(heading)}: {text}" if isinstance(heading, str) else text
