"""MST_STOCK: the text as multistep-transcriber alone would give it, defects of its text included."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.engines.mst import meeting
from worker.engines.protocol import Segment

if TYPE_CHECKING:
    from tests.engines.mst.bench import Bench, Run
    from tests.engines.mst.llm_server import LlmServer


@pytest.fixture(autouse=True)
def _in_phrases(bench: Bench) -> None:
    bench.speech.segments = meeting.IN_PHRASES


def run(bench: Bench, llm: LlmServer) -> Run:
    return bench.run(openai_base_url=llm.openai_url, mst_stock=True)


def test_words_are_glued_as_by_mst(bench: Bench, llm: LlmServer) -> None:
    """D6."""
    made = run(bench, llm)
    assert meeting.GLUED in " ".join(made.texts)
    assert made.transcript.engine == "mst"


def test_segments_are_still_in_order(bench: Bench, llm: LlmServer) -> None:
    """The result's promise holds: no segment of no length, none before the one before."""
    segments = run(bench, llm).transcript.segments
    for segment in segments:
        assert segment.start < segment.end
    for one, following in itertools.pairwise(segments):
        assert one.end <= following.start


@pytest.mark.parametrize(
    "orders",
    [
        pytest.param({"names": {}}, id="D1"),
        pytest.param({"turns": [[0, 120, "A"]]}, id="D2 one turn"),
        pytest.param({"turns": []}, id="D2 no turn"),
        pytest.param({"at": {"pyannote": {"do": "raise"}}}, id="D3"),
    ],
)
def test_what_would_end_mst_ends_no_job(bench: Bench, llm: LlmServer, orders: dict[str, object]) -> None:
    bench.standin.order(**orders)
    assert run(bench, llm).texts


def test_no_speech(bench: Bench, llm: LlmServer) -> None:
    """D5."""
    bench.speech.segments = ()
    assert run(bench, llm).texts == []


def test_both_kinds_of_result_are_kept_apart(bench: Bench, llm: LlmServer) -> None:
    kept = bench.checkpoints()
    stock = bench.run(openai_base_url=llm.openai_url, mst_stock=True, checkpoints=kept)
    cured = bench.run(openai_base_url=llm.openai_url, checkpoints=kept)
    assert cured.texts == list(meeting.SENTENCES)
    assert stock.texts != cured.texts


def test_an_llm_that_is_away_is_no_headline(bench: Bench, llm: LlmServer) -> None:
    """D15 is cured in stock mode, too: an error is no text."""
    llm.stop()
    made = run(bench, llm)
    assert "Error:" not in str(made.transcript.topics)
    assert made.transcript.partial


def test_a_single_segment(bench: Bench, llm: LlmServer) -> None:
    bench.speech.segments = (Segment(0, 4, "My name is Ann Miller."),)
    assert len(run(bench, llm).texts) >= 1
