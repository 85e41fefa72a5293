"""Phrases to sentences: text kept whole, times in order and never empty."""

from __future__ import annotations

import itertools
import random

import pytest

from worker.engines.decoding import Heard, timed_runs
from worker.engines.sentences import Phrase, to_sentences

BEGIN = 50_000


def texts(*phrases: Phrase, duration_s: float = 100) -> list[str]:
    return [segment.transcript for segment in to_sentences(phrases, duration_s)]


def test_a_sentence_may_span_phrases_and_a_phrase_hold_several() -> None:
    phrases = [Phrase(0, 4, "One two. Three"), Phrase(4, 6, "four five! Six?")]
    one, two, three = to_sentences(phrases, 10)
    assert [one.transcript, two.transcript, three.transcript] == ["One two.", "Three four five!", "Six?"]
    assert (one.start, three.end) == (0, 6)
    assert one.end == two.start == pytest.approx(4 * 7 / 12, abs=0.01)


def test_titles_initials_and_numbers_end_no_sentence() -> None:
    assert texts(Phrase(0, 5, "Mr. J. Smith paid 3.50 to Dr. Jones. He left.")) == [
        "Mr. J. Smith paid 3.50 to Dr. Jones.",
        "He left.",
    ]


def test_real_repetitions_are_kept() -> None:
    assert texts(Phrase(0, 2, "No. No. No.")) == ["No.", "No.", "No."]


def test_a_long_pause_ends_a_sentence() -> None:
    assert texts(Phrase(0, 2, "well then"), Phrase(6, 8, "let us go")) == ["well then", "let us go"]


def test_text_without_stops_is_broken_between_phrases() -> None:
    phrases = [Phrase(at, at + 5, f"word{at} and more") for at in range(0, 100, 5)]
    segments = to_sentences(phrases, 100)
    assert len(segments) == 4
    assert all(segment.transcript.startswith("word") for segment in segments)


def test_scripts_without_blanks_are_split_and_joined_as_written() -> None:
    assert texts(Phrase(0, 4, "你好。今天很好。")) == ["你好。", "今天很好。"]


def test_colliding_times_are_pushed_apart() -> None:
    phrases = [Phrase(9.95, 9.95, "One. Two. Three."), Phrase(9, 9.5, "Four.")]
    segments = to_sentences(phrases, 10)
    assert all(segment.end - segment.start >= 0.0999 for segment in segments)
    assert all(one.end <= after.start for one, after in itertools.pairwise(segments))
    assert segments[-1].end <= 10


def test_any_phrases_keep_their_words_and_get_sound_times() -> None:
    rng = random.Random(3)
    for _ in range(200):
        at_s, phrases = 0.0, []
        for _ in range(rng.randrange(12)):
            start_s = at_s + rng.choice([0, 0, 0.5, 4])
            at_s = start_s + rng.choice([0, 0.02, 3])
            words = [
                rng.choice(["go", "Dr.", "yes.", "why?", "x.", "12.5"]) for _ in range(rng.randrange(1, 9))
            ]
            phrases.append(Phrase(start_s, at_s, " ".join(words)))
        segments = to_sentences(phrases, at_s + 0.5)
        kept = " ".join(segment.transcript for segment in segments)
        assert kept == " ".join(phrase.text for phrase in phrases)
        assert all(segment.start < segment.end <= at_s + 0.51 for segment in segments)
        assert all(one.end <= after.start for one, after in itertools.pairwise(segments))


def test_timestamps_part_the_text() -> None:
    tokens = [BEGIN + 50, 1, 2, BEGIN + 150, BEGIN + 200, 3, BEGIN + 250]
    assert list(timed_runs(tokens, BEGIN, 10)) == [(1.0, 3.0, [1, 2]), (4.0, 5.0, [3])]


def test_text_without_its_last_time_lasts_to_the_end() -> None:
    assert list(timed_runs([1, 2], BEGIN, 7)) == [(0.0, 7, [1, 2])]
    assert list(timed_runs([BEGIN, 1, BEGIN + 50, BEGIN + 50, 2], BEGIN, 7)) == [
        (0.0, 1.0, [1]),
        (1.0, 7, [2]),
    ]
    assert list(timed_runs([], BEGIN, 7)) == []


def test_times_never_run_backwards_or_past_the_chunk() -> None:
    tokens = [BEGIN + 200, 1, BEGIN + 100, 2, BEGIN + 1500]
    assert list(timed_runs(tokens, BEGIN, 7)) == [(4.0, 4.0, [1]), (4.0, 7, [2])]


def test_the_guard_knows_loops_guesses_and_nothing() -> None:
    assert Heard([], "so on and " * 40, -0.2, 0.1).is_doubtful
    assert Heard([], "plain words", -1.5, 0.1).is_doubtful
    assert Heard([], "Thank you.", -1.5, 0.9).is_nothing
    assert not Heard([], "Thank you.", -0.3, 0.9).is_nothing
    assert not Heard([], "", -0.3, 0.1).is_doubtful
