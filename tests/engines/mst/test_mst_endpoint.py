"""Where the language model is, and how the worker's parent asks whether it is there."""

from __future__ import annotations

import socket
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import wait_until
from worker.engines.mst.endpoint import Endpoint
from worker.errors import EngineUnavailable
from worker.hindrance import HindranceWatch
from worker.llm_watch import required_watch
from worker.settings import Settings

if TYPE_CHECKING:
    from tests.engines.mst.llm_server import LlmServer


def settings(**changes: Any) -> Settings:
    return Settings(_env_file=None, **changes)  # type: ignore[call-arg]  pydantic-settings' own


@pytest.mark.parametrize(
    ("changes", "provider", "url"),
    [
        ({}, "none", ""),
        ({"ollama_host": "box"}, "ollama", "http://box:11434"),
        ({"ollama_host": "box:80"}, "ollama", "http://box:80"),
        ({"ollama_host": "https://box/o"}, "ollama", "https://box/o"),
        ({"ollama_host": ":80"}, "ollama", "http://127.0.0.1:80"),
        ({"ollama_host": "[::1]"}, "ollama", "http://[::1]:11434"),
        ({"ollama_host": "box/o"}, "ollama", "http://box:11434/o"),
        ({"openai_base_url": "http://box/v1"}, "openai", "http://box/v1"),
        ({"ollama_host": "box", "openai_base_url": "http://b/v1"}, "ollama", "http://box:11434"),
        (
            {"ollama_host": "box", "openai_base_url": "http://b/v1", "llm_provider": "openai"},
            "openai",
            "http://b/v1",
        ),
        ({"llm_provider": "ollama"}, "ollama", "http://127.0.0.1:11434"),
        ({"ollama_host": "box", "llm_provider": "none"}, "none", ""),
    ],
)
def test_where_it_is(changes: dict[str, Any], provider: str, url: str) -> None:
    found = Endpoint.from_settings(settings(**changes))
    assert (found.provider, found.url) == (provider, url)


def endpoints(llm: LlmServer) -> list[Endpoint]:
    return [Endpoint("openai", llm.openai_url, "sk-secret"), Endpoint("ollama", llm.url)]


def test_no_problem_where_it_answers(llm: LlmServer) -> None:
    assert [one.problem(5) for one in endpoints(llm)] == [None, None]
    assert [one.path for one in llm.asked] == ["/v1/models", "/api/tags"]
    assert llm.asked[0].authorization == "Bearer sk-secret"


def test_a_name_and_password_in_the_address_are_sent_as_such(llm: LlmServer) -> None:
    url = f"http://me:p%40ss@127.0.0.1:{llm.port}/v1"
    assert Endpoint("openai", url, "unused").problem(5) is None
    assert llm.asked[0].authorization == "Basic " + b64encode(b"me:p@ss").decode()


def test_no_problem_where_there_is_none() -> None:
    assert Endpoint().problem(5) is None


def test_it_is_away(llm: LlmServer) -> None:
    llm.stop()
    for one in endpoints(llm):
        problem = one.problem(5)
        assert problem is not None
        assert "ConnectionRefusedError" in problem
        assert str(llm.port) not in problem


@pytest.mark.parametrize(("mood", "told"), [("error", "500"), ("unauthorized", "401")])
def test_it_refuses(llm: LlmServer, mood: str, told: str) -> None:
    llm.mood = mood
    for one in endpoints(llm):
        assert told in (one.problem(5) or "")


def test_it_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        problem = Endpoint("ollama", f"http://127.0.0.1:{server.getsockname()[1]}").problem(0.3)
    assert "TimeoutError" in (problem or "")
    assert time.monotonic() - started < 5


def test_what_is_no_address() -> None:
    assert "ValueError" in (Endpoint("openai", "box").problem(1) or "")


def test_secrets_are_not_shown() -> None:
    assert "sk-" not in repr(Endpoint("openai", "http://me:sk-secret@box", "sk-secret"))
    shown = repr(settings(openai_base_url="http://me:sk-secret@box/v1", ollama_host="http://me:sk-secret@b"))
    assert "sk-" not in shown


class TestWatch:
    def test_only_where_jobs_need_it(self) -> None:
        asked = {"engine": "mst", "ollama_host": "box"}
        assert required_watch(settings(**asked)) is None
        assert required_watch(settings(**asked, llm_required=True)) is not None
        assert required_watch(settings(engine="whisper", ollama_host="box", llm_required=True)) is None

    @pytest.mark.usefixtures("standin")
    def test_where_a_job_may_ask_for_it(self) -> None:
        asked = {"engine": "whisper", "ollama_host": "box", "llm_required": True}
        assert required_watch(settings(**asked)) is None
        assert required_watch(settings(**asked, engines_allowed="mst")) is not None

    def test_what_is_required_must_be_configured(self) -> None:
        with pytest.raises(EngineUnavailable, match="OLLAMA_HOST"):
            required_watch(settings(engine="mst", llm_required=True))

    def test_it_outlives_its_own_mistakes(self) -> None:
        answers = iter([RecursionError(), None])

        def ask() -> None:
            if (answer := next(answers, None)) is not None:
                raise answer

        watch = HindranceWatch("a server", ask, every_s=0.02)
        watch.start()
        wait_until(watch.is_up, 5, "the second answer")

    def test_it_follows_the_server(self, llm: LlmServer) -> None:
        watch = HindranceWatch("a server", lambda: endpoints(llm)[0].problem(1), every_s=0.02)
        assert not watch.is_up()
        watch.start()
        wait_until(watch.is_up, 5, "the server to be found")
        llm.mood = "error"
        wait_until(lambda: not watch.is_up(), 5, "the fault to be found")
        assert "500" in (watch.problem() or "")
        llm.mood = "fine"
        wait_until(watch.is_up, 5, "the server to be found again")
