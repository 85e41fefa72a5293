"""Sentences and corrections, by themselves: pure functions over many texts."""

from __future__ import annotations

import contextlib
import gc
import itertools
import re
import threading
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engines.mst.correction import correct
from worker.engines.mst.failures import StepFailed
from worker.engines.mst.lane import Lane
from worker.engines.mst.language_model import LONGEST_ANSWER, LanguageModelFailed, cleaned
from worker.engines.mst.sentences import PIECE_CHARACTERS, to_sentences
from worker.engines.mst.topics import HEADLINE_CHARACTERS, ask_headline, ask_summary, first_words

if TYPE_CHECKING:
    from worker.engines.mst.rows import Row


def nlp(text: str) -> Any:
    """Sentences end at a full stop with a blank behind it."""
    found = re.finditer(r".*?\.(?:\s+|$)|.+$", text)
    return SimpleNamespace(
        sents=[
            SimpleNamespace(start_char=one.start(), end_char=one.end())
            for one in found
            if one.group().strip()
        ]
    )


texts = st.lists(
    st.text(alphabet="ab .é", min_size=1, max_size=12).filter(lambda text: text.strip()), min_size=1
)


@given(texts, st.floats(0.2, 5), st.floats(0, 4))
def test_every_word_is_kept_in_order(said: list[str], each_s: float, pause_s: float) -> None:
    at = itertools.count()
    rows: list[Row] = [
        {
            "start": (number := next(at)) * (each_s + pause_s),
            "end": number * (each_s + pause_s) + each_s,
            "transcript": text,
        }
        for text in said
    ]
    length_s = len(said) * (each_s + pause_s) + 1
    made = to_sentences(rows, nlp, length_s)
    assert " ".join(row["transcript"] for row in made).split() == " ".join(said).split()
    for row in made:
        assert 0 <= row["start"] < row["end"] <= length_s + 0.001
    for one, following in itertools.pairwise(made):
        assert one["end"] <= following["start"] + 1e-9


def test_times_do_not_drift_over_hours() -> None:
    """D7: a thousand sentences, two in each segment."""
    rows: list[Row] = [
        {"start": at * 4.0, "end": at * 4.0 + 3.8, "transcript": f"This is {at}. That is."}
        for at in range(1000)
    ]
    made = to_sentences(rows, nlp, 4000)
    assert len(made) == 2000
    for at in range(1000):
        assert made[2 * at]["start"] == pytest.approx(at * 4.0, abs=0.2)


def test_a_long_pause_ends_a_sentence() -> None:
    rows: list[Row] = [
        {"start": 0.0, "end": 2.0, "transcript": "one two"},
        {"start": 60.0, "end": 62.0, "transcript": "three."},
    ]
    assert [row["transcript"] for row in to_sentences(rows, nlp, 70)] == ["one two", "three."]


def test_long_texts_go_to_spacy_in_pieces() -> None:
    """It refuses a million characters."""
    sizes: list[int] = []

    def noted(text: str) -> Any:
        sizes.append(len(text))
        return nlp(text)

    rows: list[Row] = [
        {"start": float(at), "end": at + 0.9, "transcript": "a" * 999 + "."} for at in range(1200)
    ]
    assert len(to_sentences(rows, noted, 1200)) == 1200
    assert max(sizes) < PIECE_CHARACTERS + 2000


@pytest.mark.parametrize("stop", ["。", "", " and so on"])
def test_what_the_model_cannot_part_is_parted_as_whisper_did(stop: str) -> None:
    """No stops, or those of another script: an hour must not become one sentence."""
    rows: list[Row] = [
        {"start": at * 5.0, "end": at * 5.0 + 4.9, "transcript": f"kore wa {at} desu{stop}"}
        for at in range(720)
    ]
    made = to_sentences(rows, nlp, 3600)
    assert max(row["end"] - row["start"] for row in made) <= 35
    assert (
        " ".join(row["transcript"] for row in made).split()
        == " ".join(row["transcript"] for row in rows).split()
    )


def letters(words: list[str]) -> Any:
    """Words of near letters are near; and days are all the same, as to a model of meaning."""
    vectors = np.zeros((len(words), 27))
    for at, word in enumerate(words):
        for letter in word:
            vectors[at, (ord(letter) - 97) % 27] += 1
        if word.endswith("day"):
            vectors[at] = np.eye(27)[0]
    return vectors


@pytest.mark.parametrize(
    ("said", "made"),
    [
        ("We went to Rivertonn, then home.", "We went to Riverton, then home."),
        ("(Rivertan's road)", "(Riverton's road)"),
        ("The state of the art in every State.", "The state of the art in every State."),
        ("Rivertons and Rivertonian schools", "Rivertons and Rivertonian schools"),
        ("O'Brian Street; O’Brian!", "O'Brien Street; O'Brien!"),  # noqa: RUF001  both apostrophes
        ("It was Tuesday.", "It was Tuesday."),
        ("riverton  is   written   so", "riverton  is   written   so"),
        ("a I of in on", "a I of in on"),
    ],
)
def test_correction_changes_names_alone(said: str, made: str) -> None:
    """D11."""
    rows: list[Row] = [{"start": 0.0, "end": 1.0, "transcript": said}]
    names = ["Riverton", "O'Brien", "Monday", "Ann of the road", "United States", "School Board"]
    assert correct(rows, names, letters, 0.85)[0]["transcript"] == made


@given(st.text(alphabet="abc'’.- 12é\n", max_size=60))  # noqa: RUF001  on purpose
def test_correction_without_near_names_changes_nothing(said: str) -> None:
    rows: list[Row] = [{"start": 0.0, "end": 1.0, "transcript": said}]
    assert correct(rows, ["Zyxwvu"], letters, 0.85) == rows


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Fine", "Fine"),
        ("<think>a</think>Fine", "Fine"),
        ("Fine <think>a</think>", "Fine"),
        ("a</think>Fine", "Fine"),
        ("<think>never ended", ""),
        ("```markdown\nFine\n```", "Fine"),
        ("Fi\x00ne \ud83d", "Fine"),
        ("x" * 100_000, "x" * LONGEST_ANSWER),
    ],
)
def test_answers_are_cleaned(answer: str, text: str) -> None:
    assert cleaned(answer) == text


@pytest.mark.parametrize(
    ("answer", "headline"),
    [
        ("# **The *road* is closed**", "The road is closed"),
        ("Here is a headline:\n\nThe road", "The road"),
        ("Costs: 2*3*4 files_named_so", "Costs: 2*3*4 files_named_so"),
        ('"Quoted"', "Quoted"),
        ("[The road](http://x/)", "The road"),
    ],
)
def test_headlines_are_plain_lines(answer: str, headline: str) -> None:
    assert ask_headline("text", MODELS, answering(answer)) == headline


@pytest.mark.parametrize("answer", ["Error: context length exceeded", "**ERROR** 500", "---", "# "])
def test_what_is_no_headline_is_a_failure(answer: str) -> None:
    for ask in (ask_headline, ask_summary):
        with pytest.raises(LanguageModelFailed):
            ask("text", MODELS, answering(answer))


MODELS: Any = SimpleNamespace(
    config=SimpleNamespace(
        topic=SimpleNamespace(headline_prompt="headline", summary_prompt="summary", topic_model="m")
    )
)


def answering(answer: str) -> Any:
    return SimpleNamespace(ask=lambda _model, _messages: answer)


@pytest.mark.parametrize("text", ["x" * 200, "今日は会議を始めます。" * 20, "word " * 50])
def test_a_headline_without_a_model_is_never_empty(text: str) -> None:
    assert 10 < len(first_words(text)) <= HEADLINE_CHARACTERS + 2


class TestLane:
    def test_a_library_that_gives_up_ends_the_step_alone(self) -> None:
        """Rust's panics are BaseExceptions."""

        class PanicException(BaseException):
            pass

        def step() -> None:
            raise PanicException

        with pytest.raises(StepFailed, match="PanicException"):
            Lane().run(step, lambda: None, lambda _: None)

    def test_nothing_of_a_failed_step_lives_on(self) -> None:
        """A full GPU is tried again with less: what filled it must be gone by then."""

        class Tensor:
            pass

        alive: list[weakref.ref[Tensor]] = []

        def step() -> None:
            held = Tensor()
            alive.append(weakref.ref(held))
            raise RuntimeError("full")

        gc.disable()
        try:
            with contextlib.suppress(RuntimeError):
                Lane().run(step, lambda: None, lambda _: None)
            assert alive[0]() is None
        finally:
            gc.enable()

    def test_only_the_waiting_thread_is_heard(self, capsys: pytest.CaptureFixture[str]) -> None:
        heard = threading.Event()

        def step() -> None:
            print("the step's")  # noqa: T201  what is tested
            other = threading.Thread(target=print, args=("a library's",))
            other.start()
            other.join()
            heard.wait(10)

        def check() -> None:
            print("mine")  # noqa: T201  what is tested
            heard.set()

        Lane().run(step, check, lambda _: None)
        said = capsys.readouterr().out
        assert "mine" in said
        assert "the step's" not in said
        assert "a library's" not in said
