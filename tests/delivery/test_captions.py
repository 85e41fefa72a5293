"""Captions and plain text, read back by a parser of another's."""

from __future__ import annotations

import html
import io
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import webvtt
from hypothesis import example, given
from hypothesis import strategies as st

from worker.delivery.captions import MAX_MS, MIN_MS, shares_ms, to_srt, to_txt, to_vtt
from worker.delivery.document import Document, Segment, Topic
from worker.delivery.wrapping import clean, columns, to_captions

if TYPE_CHECKING:
    from collections.abc import Callable

SENTENCE = (
    "Good morning everyone, and welcome to the quarterly meeting of the board; today we will talk about "
    "the budget, about hiring, and then about the new office."
)
JAPANESE = (
    "今日は取締役会にお集まりいただき、ありがとうございます。まず予算について、次に採用計画について話します。"
)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
SPOKEN = st.lists(
    st.one_of(st.from_regex(r"[a-zA-Z0-9&<>{}'.,!?-]{1,60}", fullmatch=True), ANY_TEXT),
    min_size=1,
    max_size=30,
).map(" ".join)
SEGMENTS = st.lists(
    st.builds(
        Segment,
        start=st.floats(0, 400_000),
        end=st.floats(0, 400_000),
        transcript=SPOKEN,
        speaker_name=st.one_of(st.none(), ANY_TEXT),
    ),
    max_size=6,
)


@dataclass(frozen=True)
class Read:
    start_ms: int
    end_ms: int
    speaker: str | None
    lines: list[str]


def document(*segments: Segment, topics: list[Topic] | None = None) -> Document:
    return Document(
        task_id="t", engine="e", model="m", duration_s=100, segments=list(segments), topics=topics or []
    )


def spoken(
    start: float, end: float, text: str, speaker: str | None = None, topic: int | None = None
) -> Segment:
    return Segment(start=start, end=end, transcript=text, speaker_name=speaker, topic=topic)


def read_vtt(text: str) -> list[Read]:
    """What a player shows: the parser drops tags and leaves the entities."""
    return [
        Read(
            cue.start_time.in_milliseconds(),
            cue.end_time.in_milliseconds(),
            html.unescape(cue.voice) if cue.voice else None,
            [html.unescape(line) for line in cue.text.split("\n")],
        )
        for cue in webvtt.from_string(text)
    ]


def read_srt(text: str) -> list[Read]:
    return [
        Read(cue.start_time.in_milliseconds(), cue.end_time.in_milliseconds(), None, list(cue.lines))
        for cue in (webvtt.from_buffer(io.StringIO(text), format="srt") if text else [])
    ]


def squeezed(text: str) -> str:
    return "".join(text.split())


def test_a_long_sentence_is_cut_at_its_pause_with_times_by_its_letters() -> None:
    cues = read_vtt(to_vtt(document(spoken(1, 11, SENTENCE, "Ann"))))
    assert [cue.lines for cue in cues] == [
        ["Good morning everyone, and welcome to", "the quarterly meeting of the board;"],
        ["today we will talk about the budget, about", "hiring, and then about the new office."],
    ]
    assert {cue.speaker for cue in cues} == {"Ann"}
    assert [(cue.start_ms, cue.end_ms) for cue in cues] == [(1000, 5736), (5736, 11_000)]


def test_japanese_is_cut_between_its_signs_and_never_before_its_punctuation() -> None:
    cues = read_vtt(to_vtt(document(spoken(0, 12, JAPANESE))))
    lines = [line for cue in cues for line in cue.lines]
    assert "".join(lines) == JAPANESE
    assert len(cues) == 2
    assert all(len(line) <= 21 for line in lines)
    assert not any(line[0] in "。、" for line in lines)


def test_korean_is_cut_at_its_blanks() -> None:
    text = (
        "안녕하세요 여러분 오늘은 예산과 채용 계획에 대해 이야기하겠습니다 그리고 새로운 사무실도 보겠습니다"
    )
    lines = [line for cue in read_vtt(to_vtt(document(spoken(0, 9, text)))) for line in cue.lines]
    assert " ".join(lines) == text


def test_a_word_longer_than_a_line_is_broken() -> None:
    cues = read_srt(to_srt(document(spoken(0, 5, "a" * 100))))
    assert "".join(line for cue in cues for line in cue.lines) == "a" * 100


def test_an_accent_stays_on_its_letter() -> None:
    lines = [line for lines in to_captions("e\u0301" * 100) for line in lines]
    assert all(line.startswith("e") for line in lines)


def test_who_speaks_stands_before_the_text_in_srt_and_is_the_voice_in_vtt() -> None:
    told = document(spoken(0, 2, "Hello.", "Ann"), spoken(2, 4, "Hi.", None))
    assert [cue.lines for cue in read_srt(to_srt(told))] == [["Ann: Hello."], ["Hi."]]
    assert [(cue.speaker, cue.lines) for cue in read_vtt(to_vtt(told))] == [
        ("Ann", ["Hello."]),
        (None, ["Hi."]),
    ]


def test_a_name_as_long_as_a_line_is_shortened_and_leaves_the_text_its_own() -> None:
    cues = read_srt(to_srt(document(spoken(0, 2, "Hello there.", "N" * 60))))
    assert [cue.lines for cue in cues] == [["N" * 39 + "…:", "Hello there."]]


def test_short_words_stay_until_the_next_one_speaks_and_slow_ones_go() -> None:
    cues = read_srt(to_srt(document(spoken(1, 1.1, "Yes."), spoken(1.5, 1.6, "No."), spoken(9, 30, "Well."))))
    assert [(cue.start_ms, cue.end_ms) for cue in cues] == [(1000, 1500), (1500, 2300), (9000, 16_000)]


def test_slow_speech_is_shown_in_parts() -> None:
    cues = read_srt(to_srt(document(spoken(0, 13, "This is said very slowly, in one long breath."))))
    assert [cue.lines for cue in cues] == [["This is said very slowly,"], ["in one long breath."]]


@pytest.mark.parametrize("render", [to_srt, to_vtt])
@pytest.mark.parametrize("text", ["", " \n", "\0\x07"])
def test_nothing_said_is_no_caption(render: Callable[[Document], str], text: str) -> None:
    assert "-->" not in render(document(spoken(0, 1, text)))


def test_text_that_looks_like_a_cue_ends_none() -> None:
    text = "one\n\n7\n00:00:01.000 --> 00:00:02.000\ntwo <i>x</i> &amp; \0\x1b[0m\u2028three"
    [shown] = read_vtt(to_vtt(document(spoken(0, 6, text))))
    assert " ".join(shown.lines) == "one 7 00:00:01.000 --> 00:00:02.000 two <i>x</i> &amp; [0m three"
    [shown] = read_srt(to_srt(document(spoken(0, 6, text))))
    assert " ".join(shown.lines) == "one 7 00:00:01.000 -> 00:00:02.000 two <i>x</i> &amp; [0m three"


@given(SEGMENTS)
@example([spoken(5, 5, "a"), spoken(5, 5, "b"), spoken(5, 4, "c" * 300)])
@example([spoken(0, 1, "\u200b"), spoken(0, 1, "\u200d".join("👩" * 60))])
def test_captions_of_any_text_are_in_order_short_and_complete(segments: list[Segment]) -> None:
    in_order = sorted((s for s in segments if clean(s.transcript)), key=lambda s: s.start)
    said = squeezed("".join(clean(segment.transcript) for segment in in_order))
    for cues in (read_vtt(to_vtt(document(*segments))), read_srt(to_srt(nameless(segments)))):
        assert all(cue.start_ms < cue.end_ms <= cue.start_ms + MAX_MS for cue in cues)
        assert all(before.end_ms <= after.start_ms for before, after in pairwise(cues))
        assert all(1 <= len(cue.lines) <= 2 for cue in cues)
        assert all(0 <= columns(line) <= 42 and line.strip() for cue in cues for line in cue.lines)
        shown = squeezed("".join(line for cue in cues for line in cue.lines))
        assert shown.replace("-->", "->") == said.replace("-->", "->")


@given(SEGMENTS)
def test_names_of_any_text_leave_lines_as_short(segments: list[Segment]) -> None:
    for cue in read_srt(to_srt(document(*segments))):
        assert 1 <= len(cue.lines) <= 2
        assert all(columns(line) <= 42 for line in cue.lines)


@given(st.integers(0, 20_000), st.lists(st.integers(0, 84), min_size=1, max_size=8))
def test_shares_are_whole_and_none_is_shorter_than_need_be(extra_ms: int, weights: list[int]) -> None:
    total_ms = len(weights) + extra_ms
    shares = shares_ms(total_ms, weights)
    assert sum(shares) == total_ms
    assert min(shares) >= (MIN_MS if total_ms >= MIN_MS * len(weights) else 1)


def test_plain_text_has_a_paragraph_a_turn_under_its_headline() -> None:
    told = document(
        spoken(0, 1, "Good morning.", "Ann", 0),
        spoken(1, 2, "Shall we?", "Ann", 0),
        spoken(2, 3, "Yes.", "Ben", 0),
        spoken(3, 4, "Next\npoint.", "Ben", 1),
        topics=[Topic(headline="Greetings", summary=""), Topic(headline="Plans", summary="")],
    )
    assert to_txt(told).split("\n\n") == [
        "Greetings",
        "Ann: Good morning. Shall we?",
        "Ben: Yes.",
        "Plans",
        "Ben: Next point.\n",
    ]


def test_plain_text_without_speakers_has_a_paragraph_a_minute() -> None:
    told = document(spoken(1, 2, "いち。"), spoken(30, 31, "に。"), spoken(61, 62, "Three."))
    assert to_txt(told) == "いち。に。\n\nThree.\n"


def test_plain_text_of_silence_says_so() -> None:
    assert to_txt(document()) == "No speech was found in this recording.\n"


def nameless(segments: list[Segment]) -> Document:
    return document(*[segment.model_copy(update={"speaker_name": None}) for segment in segments])
