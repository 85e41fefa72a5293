"""The result document as Markdown, laid out as multistep-transcriber does, in correct CommonMark."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.delivery.document import Document, Segment

# What CommonMark reads as mark-up anywhere in a line, and what it does only at a line's start.
_INLINE = re.compile(r"([\\`*_\[\]<>&])")
_START = re.compile(r"^([#+\-=~|])")
_NUMBERED = re.compile(r"^(\d+)([.)])")
_UNKNOWN_SPEAKER = "UNKNOWN"
_STRETCH_S = 60  # without speakers, a heading a minute keeps a long recording navigable


def to_markdown(document: Document) -> str:
    """Title, table of contents and headings by topic where there are topics, headings by speaker."""
    blocks = [
        "# Transcribed recording",
        *_warnings(document),
        *_contents(document),
        "# Transcript",
        *_body(document),
        *_entities(document),
    ]
    return "\n\n".join(blocks) + "\n"


def clock(seconds: float) -> str:
    """h:mm:ss, rounded down: a listener who seeks there hears the sentence begin."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def escape(text: str) -> str:
    """Text that CommonMark shows as it is."""
    line = _INLINE.sub(r"\\\1", " ".join(text.split()))
    return _NUMBERED.sub(r"\1\\\2", _START.sub(r"\\\1", line))


def _warnings(document: Document) -> Iterator[str]:
    for warning in document.warnings:
        yield f"> **Note:** {escape(warning.reason)}"


def _contents(document: Document) -> Iterator[str]:
    if not document.topics:
        return
    yield "# Table of contents"
    starts = _topic_starts(document)
    for number, topic in enumerate(document.topics):
        at = f" ({clock(starts[number])})" if number in starts else ""
        yield f"- [{escape(topic.headline)}](#topic-{number + 1}){at}"
        if topic.summary:
            yield f"  {escape(topic.summary)}"


def _topic_starts(document: Document) -> dict[int, float]:
    starts: dict[int, float] = {}
    for segment in document.segments:
        if segment.topic is not None:
            starts.setdefault(segment.topic, segment.start)
    return starts


def _body(document: Document) -> Iterator[str]:
    if not document.segments:
        yield "*No speech was found in this recording.*"
    for topic, of_topic in groupby(document.segments, key=lambda segment: segment.topic):
        yield from _topic_heading(document, topic)
        for heading, spoken in groupby(of_topic, key=turn_key(document)):
            yield from _turn(heading, list(spoken))


def _topic_heading(document: Document, topic: int | None) -> Iterator[str]:
    if topic is not None and topic < len(document.topics):
        yield f'<a id="topic-{topic + 1}"></a>'
        yield f"## {escape(document.topics[topic].headline)}"


def turn_key(document: Document) -> Callable[[Segment], str | int]:
    """What a new heading is set for: another speaker or, where none are told apart, another minute."""
    if any(segment.speaker_name for segment in document.segments):
        return lambda segment: segment.speaker_name or _UNKNOWN_SPEAKER
    return lambda segment: int(segment.start // _STRETCH_S)


def _turn(heading: str | int, spoken: list[Segment]) -> Iterator[str]:
    at = clock(spoken[0].start)
    yield f"### {escape(heading)} ({at})" if isinstance(heading, str) else f"### {at}"
    yield "\n".join(f"- {escape(segment.transcript)}" for segment in spoken)


def _entities(document: Document) -> Iterator[str]:
    if not document.entities:
        return
    yield "# Appendix: list of entities"
    for label, found in groupby(sorted(document.entities, key=lambda e: e.label), key=lambda e: e.label):
        yield f"## {escape(label)}"
        yield "\n".join(f"- {escape(entity.text)}" for entity in found)
