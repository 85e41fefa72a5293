"""A job can be cancelled in every step, also in one whose model does not answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.engines.mst.bench import Stop
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.engines.mst.bench import Bench
    from tests.engines.mst.llm_server import LlmServer

LONG = ("whisper", "gliner", "encode", "pyannote", "setfit", "parse", "chat")


def test_a_job_that_is_cancelled_already_is_not_begun(bench: Bench, llm: LlmServer) -> None:
    def check() -> None:
        raise Stop

    with pytest.raises(Stop):
        bench.run(openai_base_url=llm.openai_url, check=check)
    assert bench.standin.count("whisper") == bench.standin.count("pyannote") == 0


@pytest.mark.parametrize("step", LONG)
def test_cancelled_inside_a_step(bench: Bench, llm: LlmServer, step: str) -> None:
    """D28: mst's own ``except Exception`` holds no cancellation back; what follows is not begun."""
    before = bench.standin.count(step)

    def check() -> None:
        if bench.standin.count(step) > before:
            raise Stop

    engine = bench.engine(openai_base_url=llm.openai_url)
    with pytest.raises(Stop):
        bench.run(engine, check=check)
    for one in LONG[LONG.index(step) + 1 :]:
        if one not in ("parse", "encode"):  # which of names, words and topics comes first is not promised
            assert bench.standin.count(one) == 0, f"{one} was begun"
    # The engine stays good for the next job.
    assert not bench.run(engine).transcript.partial


@pytest.mark.parametrize("step", ["gliner", "encode", "pyannote", "setfit", "treeseg"])
def test_cancelled_while_a_model_hangs(bench: Bench, llm: LlmServer, step: str) -> None:
    """``check`` goes on being called every few seconds; the model's thread is left to itself."""
    bench.standin.at(step, "hang")

    def check() -> None:
        if bench.standin.count(step):
            raise Stop

    with pytest.raises(Stop):
        bench.run(openai_base_url=llm.openai_url, check=check)


def test_cancelled_while_the_language_model_is_silent(bench: Bench, llm: LlmServer) -> None:
    llm.mood = "hang"

    def check() -> None:
        if llm.chats():
            raise Stop

    started = time.monotonic()
    with pytest.raises(Stop):
        bench.run(openai_base_url=llm.openai_url, check=check, llm_timeout_s=100)
    assert time.monotonic() - started < 60


def test_check_is_called_often_while_a_model_works(bench: Bench, llm: LlmServer) -> None:
    bench.standin.at("pyannote", "hang")
    calls: list[float] = []

    def check() -> None:
        if bench.standin.count("pyannote"):
            calls.append(time.monotonic())
        if len(calls) == 3:
            bench.standin.order(at={})

    run = bench.run(openai_base_url=llm.openai_url, check=check)
    assert len(calls) > 3
    assert not run.transcript.partial


def test_a_check_that_raises_leaves_no_thread_behind(bench: Bench, llm: LlmServer) -> None:
    import threading  # noqa: PLC0415

    before = {thread.ident for thread in threading.enumerate()}
    bench.standin.at("setfit", "raise")
    bench.run(openai_base_url=llm.openai_url)
    wait_until(
        lambda: [one for one in threading.enumerate() if one.ident not in before and not one.daemon] == [],
        10,
        "threads to end",
    )
