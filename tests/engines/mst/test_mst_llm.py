"""The language model: away, slow, silent, garrulous or lying. No error text is ever a headline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.engines.mst import meeting
from tests.engines.mst.llm_server import ERROR_TEXT, LlmServer

if TYPE_CHECKING:
    from tests.engines.mst.bench import Bench, Run

ALL = list(meeting.SENTENCES)
LLM_STEPS = {"entities", "headlines", "summaries"}


def assert_nothing_of_an_error_is_shown(run: Run) -> None:
    for topic in run.transcript.topics:
        for text in (topic.headline, topic.summary):
            assert "rror" not in text
            assert "<think>" not in text
            assert "\n" not in topic.headline


def providers(llm: LlmServer) -> dict[str, dict[str, Any]]:
    return {
        "openai": {"llm_provider": "openai", "openai_base_url": llm.openai_url},
        "ollama": {"llm_provider": "ollama", "ollama_host": llm.url},
    }


@pytest.mark.parametrize("provider", ["openai", "ollama"])
class TestBothProviders:
    def test_fine(self, bench: Bench, llm: LlmServer, provider: str) -> None:
        run = bench.run(**providers(llm)[provider])
        assert run.transcript.topics[0].headline == "Headline: Good morning, my"
        assert not run.transcript.partial

    def test_away(self, bench: Bench, llm: LlmServer, provider: str) -> None:
        """D14, D15: topics without the model's words, and names as GLiNER found them."""
        llm.stop()
        run = bench.run(**providers(llm)[provider])
        assert_is_without_the_llm(run)

    def test_failing(self, bench: Bench, llm: LlmServer, provider: str) -> None:
        llm.mood = "error"
        assert_is_without_the_llm(bench.run(**providers(llm)[provider]))

    def test_silent(self, bench: Bench, llm: LlmServer, provider: str) -> None:
        """Ollama's own client would wait for ever."""
        llm.mood = "hang"
        assert_is_without_the_llm(bench.run(**providers(llm)[provider], llm_timeout_s=1))

    def test_slow(self, bench: Bench, llm: LlmServer, provider: str) -> None:
        llm.mood = "slow"
        assert not bench.run(**providers(llm)[provider]).transcript.partial

    def test_thinking_aloud(self, bench: Bench, llm: LlmServer, provider: str) -> None:
        llm.mood = "think"
        run = bench.run(**providers(llm)[provider])
        assert run.transcript.topics[0].headline == "Headline: Good morning, my"
        assert_nothing_of_an_error_is_shown(run)
        assert run.speakers[0] == "Ann Miller"

    def test_the_model_is_not_there(self, bench: Bench, llm: LlmServer, provider: str) -> None:
        llm.mood = "gone"
        assert_is_without_the_llm(bench.run(**providers(llm)[provider]))


def assert_is_without_the_llm(run: Run) -> None:
    assert run.texts == ALL
    assert run.transcript.partial
    assert {warning.step for warning in run.transcript.warnings} <= LLM_STEPS
    assert run.transcript.warnings
    assert len(run.transcript.topics) > 1
    assert_nothing_of_an_error_is_shown(run)
    assert {("Person", "Ann Miller"), ("Person", "Bob Stone")} <= {
        (one.label, one.text) for one in run.transcript.entities
    }
    assert run.speakers[0] == "Ann Miller"


@pytest.mark.parametrize("mood", ["garbage", "empty", "error_text", "invented", "shouting", "unauthorized"])
def test_no_answer_spoils_a_result(bench: Bench, llm: LlmServer, mood: str) -> None:
    llm.mood = mood
    run = bench.run(openai_base_url=llm.openai_url)
    assert run.texts == ALL
    assert_nothing_of_an_error_is_shown(run)
    assert all(topic.headline for topic in run.transcript.topics)
    assert len(run.transcript.topics) > 1
    assert ERROR_TEXT not in str(run.transcript)


def test_names_that_it_invents_are_not_taken(bench: Bench, llm: LlmServer) -> None:
    """D14."""
    llm.mood = "invented"
    run = bench.run(openai_base_url=llm.openai_url)
    texts = {one.text for one in run.transcript.entities}
    assert "Zaphod Beeblebrox" not in texts
    assert {"Ann Miller", "Bob Stone"} <= texts
    assert "Zaphod" not in " ".join(run.texts)


def test_names_that_it_drops_are_kept(bench: Bench, llm: LlmServer) -> None:
    """D14."""
    llm.mood = "empty"
    texts = {one.text for one in bench.run(openai_base_url=llm.openai_url).transcript.entities}
    assert {"Ann Miller", "Bob Stone"} <= texts


def test_it_is_not_asked_about_no_names(bench: Bench, llm: LlmServer) -> None:
    """D14: only pronouns were found."""
    bench.standin.order(names={"We": "Person"})
    run = bench.run(openai_base_url=llm.openai_url)
    assert not [one for one in llm.chats() if one.wants_json]
    assert not run.transcript.partial


def test_none_is_wanted(bench: Bench, llm: LlmServer) -> None:
    run = bench.run(llm_provider="none", openai_base_url=llm.openai_url)
    assert llm.asked == []
    assert run.texts == ALL
    assert len(run.transcript.topics) > 1
    assert all(topic.headline for topic in run.transcript.topics)


def test_none_is_configured(bench: Bench) -> None:
    run = bench.run()
    assert run.texts == ALL
    assert bench.standin.count("chat") == bench.standin.count("parse") == 0


def test_it_comes_back_between_two_jobs(bench: Bench, llm: LlmServer) -> None:
    """D15, D22: what stood in for its answers is not kept, not even for the same job's next attempt."""
    llm.stop()
    engine, kept = bench.engine(openai_base_url=llm.openai_url), bench.checkpoints()
    assert bench.run(engine, checkpoints=kept).transcript.partial
    llm.start()
    run = bench.run(engine, checkpoints=kept)
    assert run.transcript.topics[0].headline == "Headline: Good morning, my"
    assert (run.transcript.partial, run.transcript.warnings) == (False, ())


def test_a_failed_call_is_tried_again(bench: Bench, llm: LlmServer) -> None:
    llm.mood = "error"
    bench.run(openai_base_url=llm.openai_url, llm_retries=2)
    prompts = [one.prompt for one in llm.chats()]
    assert {prompts.count(prompt) for prompt in set(prompts)} <= {1, 3}
    assert 3 in {prompts.count(prompt) for prompt in set(prompts)}


def test_each_topic_is_asked_about_once(bench: Bench, llm: LlmServer) -> None:
    run = bench.run(openai_base_url=llm.openai_url)
    asked = [one for one in llm.chats() if not one.wants_json]
    assert len(asked) == 2 * len(run.transcript.topics)


@pytest.mark.parametrize("provider", ["openai", "ollama"])
class TestEmbeddingsOfTheServer:
    def test_fine(self, bench: Bench, llm: LlmServer, provider: str) -> None:
        run = bench.run(**providers(llm)[provider], embedding_model="nomic-embed-text")
        assert len(run.transcript.topics) > 1
        assert llm.count("/embeddings") + llm.count("/api/embed") >= 1
        assert not run.transcript.partial

    @pytest.mark.parametrize("mood", ["error", "hang", "gone"])
    def test_failing(self, bench: Bench, llm: LlmServer, provider: str, mood: str) -> None:
        """D17: no topics, or the worker's own embeddings; never a KeyError."""
        llm.mood_of_embeddings = mood
        run = bench.run(**providers(llm)[provider], embedding_model="nomic-embed-text", llm_timeout_s=1)
        assert run.texts == ALL
        assert run.transcript.partial
        assert {warning.step for warning in run.transcript.warnings} == {"topics"}
        assert "embedding" in run.transcript.warnings[0].reason

    def test_a_second_server_is_really_asked(self, bench: Bench, llm: LlmServer, provider: str) -> None:
        """D19: the first client is not kept for ever."""
        bench.run(**providers(llm)[provider], embedding_model="e")
        other = LlmServer().start()
        try:
            bench.run(**providers(other)[provider], embedding_model="e")
            assert other.count("/embeddings") + other.count("/api/embed") >= 1
        finally:
            other.stop()
