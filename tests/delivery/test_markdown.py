"""The Markdown rendering, read back by a CommonMark parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from worker.delivery.document import Document, Entity, ResultWarning, Segment, Topic
from worker.delivery.markdown import clock, escape, to_markdown

PARSER = MarkdownIt("commonmark")


def document(segments: list[Segment], **fields: object) -> Document:
    basics = {"task_id": "t", "engine": "e", "model": "m", "duration_s": 100.0, "segments": segments}
    return Document.model_validate({**basics, **fields})


def spoken(start: float, text: str, speaker: str | None = None, topic: int | None = None) -> Segment:
    return Segment(start=start, end=start + 1, transcript=text, speaker_name=speaker, topic=topic)


def headings(markdown: str) -> list[tuple[str, str]]:
    tokens = PARSER.parse(markdown)
    return [
        (token.tag, tokens[number + 1].content)
        for number, token in enumerate(tokens)
        if token.type == "heading_open"
    ]


def visible_text(markdown: str) -> str:
    """What a reader sees of the one block that ``markdown`` is."""
    inline = [token for token in PARSER.parse(markdown) if token.type == "inline"]
    return "".join(child.content for token in inline for child in token.children or [])


def test_topics_and_speakers_become_headings_each_once() -> None:
    segments = [
        spoken(0, "Good morning.", "Ann", 0),
        spoken(5, "Hello.", "Ben", 0),
        spoken(3725.9, "Next point.", "Ben", 1),
    ]
    topics = [Topic(headline="Greetings", summary="They greet."), Topic(headline="Plans", summary="")]
    markdown = to_markdown(document(segments, topics=topics, entities=[Entity(label="Person", text="Ann")]))
    assert headings(markdown) == [
        ("h1", "Transcribed recording"),
        ("h1", "Table of contents"),
        ("h1", "Transcript"),
        ("h2", "Greetings"),
        ("h3", "Ann (0:00:00)"),
        ("h3", "Ben (0:00:05)"),
        ("h2", "Plans"),
        ("h3", "Ben (1:02:05)"),
        ("h1", "Appendix: list of entities"),
        ("h2", "Person"),
    ]
    assert "[Plans](#topic-2) (1:02:05)" in markdown
    assert 'id="topic-2"' in markdown


def test_a_single_topic_has_its_heading_too() -> None:
    markdown = to_markdown(
        document([spoken(0, "Hello.", "Ann", 0)], topics=[Topic(headline="All", summary="s")])
    )
    assert ("h2", "All") in headings(markdown)


def test_without_speakers_there_is_a_heading_a_minute() -> None:
    markdown = to_markdown(document([spoken(1, "One."), spoken(30, "Two."), spoken(61, "Three.")]))
    assert headings(markdown)[2:] == [("h3", "0:00:01"), ("h3", "0:01:01")]


def test_silence_says_so() -> None:
    assert "No speech was found" in to_markdown(document([]))


def test_warnings_are_shown() -> None:
    warning = ResultWarning(code="llm_down", step="topics", reason="the LLM did not answer")
    assert "the LLM did not answer" in to_markdown(document([], warnings=[warning]))


@pytest.mark.parametrize(
    "text",
    ["1. first", "12) x", "# no heading", "- no list", "a *b* _c_ `d` <e> [f](g) & h", "~~~", "+ 1", "= x"],
)
def test_spoken_text_is_never_mark_up(text: str) -> None:
    assert visible_text(f"- {escape(text)}") == text
    assert len([t for t in PARSER.parse(f"- {escape(text)}") if t.type == "list_item_open"]) == 1


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    assert visible_text(f"- {escape(text)}") == text


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00:00"), (59.99, "0:00:59"), (36000, "10:00:00")])
def test_times_are_hours_minutes_seconds(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
