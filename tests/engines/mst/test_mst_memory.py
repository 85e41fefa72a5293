"""A full GPU, and ways to need less of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from worker.engines.oom import with_room
from worker.errors import OutOfGpuMemory

if TYPE_CHECKING:
    from tests.engines.mst.bench import Bench
    from tests.engines.mst.llm_server import LlmServer
    from worker.engines.protocol import Transcript

LARGEST = (32, 32)


@pytest.fixture(autouse=True)
def _gpu(bench: Bench) -> None:
    bench.standin.order(cuda=True)


@pytest.mark.parametrize("step", ["whisper", "pyannote", "encode", "setfit", "gliner"])
def test_a_full_gpu_is_told_as_such(bench: Bench, llm: LlmServer, step: str) -> None:
    """D3, D4, D28: never a partial result that another attempt would have made whole."""
    bench.standin.at(step, "gpu_oom")
    with pytest.raises(OutOfGpuMemory):
        bench.run(openai_base_url=llm.openai_url, device="auto")


def test_diarization_takes_smaller_batches(bench: Bench, llm: LlmServer) -> None:
    engine = bench.engine(openai_base_url=llm.openai_url, device="auto")
    bench.run(engine)
    assert engine.relieve()
    bench.run(engine)
    first, second = (one["batch"] for one in bench.standin.calls("pyannote"))
    assert max(second) < max(first)
    assert bench.speech.relieved == 1


def test_entities_and_words_take_smaller_batches(bench: Bench, llm: LlmServer) -> None:
    engine = bench.engine(openai_base_url=llm.openai_url, device="auto")
    bench.run(engine)
    assert engine.relieve()
    bench.run(engine)
    sizes = [one["texts"] for one in bench.standin.calls("gliner")]
    assert sizes == [24, 16, 8]


def test_batches_do_not_shrink_for_ever(bench: Bench) -> None:
    engine = bench.engine(device="auto")
    engine.prepare()
    for _ in range(100):
        if not engine.relieve():
            return
    pytest.fail("relieve() always finds something smaller")


def test_on_the_cpu_no_model_is_left_on_the_gpu(bench: Bench, llm: LlmServer) -> None:
    engine = bench.engine(openai_base_url=llm.openai_url, device="auto")
    engine.prepare()
    engine.move_to_cpu()
    run = bench.run(engine)
    assert bench.speech.on_cpu
    assert {one["device"] for one in bench.standin.calls("pyannote")} == {"cpu"}
    assert not run.transcript.partial


def test_a_gpu_is_not_used_where_the_cpu_is_set(bench: Bench, llm: LlmServer) -> None:
    """Not even while loading: it may be full."""
    bench.run(openai_base_url=llm.openai_url, device="cpu")
    assert {one["device"] for one in bench.standin.calls("pyannote")} == {"cpu"}
    assert {one["device"] for one in bench.standin.calls("pyannote.to")} == {"cpu"}


def test_the_whole_way_from_full_to_cpu(bench: Bench, llm: LlmServer) -> None:
    """Smaller batches do not help; on the CPU the job goes on behind what was done."""
    bench.standin.at("pyannote", "gpu_oom", on=[1, 2])
    engine, kept = bench.engine(openai_base_url=llm.openai_url, device="auto"), bench.checkpoints()

    def run() -> Transcript:
        return bench.run(engine, checkpoints=kept).transcript

    made = with_room(engine, "cpu", run, lambda: None)
    assert [warning.code for warning in made.warnings] == ["ran_on_cpu"]
    assert bench.standin.count("whisper") == bench.standin.count("gliner") == 1
    assert bench.standin.calls("pyannote")[-1]["device"] == "cpu"
