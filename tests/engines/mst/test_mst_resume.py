"""An attempt that dies at a step: the next one gives the same result, and repeats nothing that was done."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.engines.mst.bench import STANDIN, Killed
from worker.engines.checkpoints import FolderCheckpoints
from worker.engines.protocol import Options

if TYPE_CHECKING:
    from tests.engines.mst.bench import Bench
    from tests.engines.mst.llm_server import LlmServer

ROOT = Path(__file__).parents[3]
# The models in the order in which the steps call them first.
MODELS = ("whisper", "spacy", "gliner", "encode", "pyannote", "setfit", "treeseg", "chat")


def killed_once(bench: Bench, engine: Any, kept: Any, call: str) -> None:
    """An attempt that ends when the call has been made."""
    before = bench.standin.count(call)

    def check() -> None:
        if bench.standin.count(call) > before:
            raise Killed

    with pytest.raises(Killed):
        bench.run(engine, checkpoints=kept, check=check)


@pytest.mark.parametrize("model", MODELS)
def test_the_next_attempt_goes_on(bench: Bench, llm: LlmServer, model: str) -> None:
    engine, kept = bench.engine(openai_base_url=llm.openai_url), bench.checkpoints()
    whole = bench.run(engine).transcript
    killed_once(bench, engine, kept, model)
    bench.standin.forget_calls()
    again = bench.run(engine, checkpoints=kept)
    assert again.transcript == whole
    for earlier in MODELS[: MODELS.index(model)]:
        if earlier not in ("spacy", "encode"):  # cheap, and shared by several steps
            assert bench.standin.count(earlier) == 0, f"{earlier} was called again"
    fractions = [report.fraction for report in again.reports]
    assert fractions == sorted(fractions)


def test_a_finished_job_computes_nothing_again(bench: Bench, llm: LlmServer) -> None:
    engine, kept = bench.engine(openai_base_url=llm.openai_url), bench.checkpoints()
    first = bench.run(engine, checkpoints=kept).transcript
    bench.standin.forget_calls()
    asked = len(llm.asked)
    assert bench.run(engine, checkpoints=kept).transcript == first
    assert [bench.standin.count(model) for model in ("whisper", "gliner", "pyannote", "treeseg")] == [0] * 4
    assert len(llm.chats()) == len(llm.asked[:asked])


@pytest.mark.parametrize("model", ["whisper", "gliner", "pyannote", "treeseg", "chat"])
def test_a_killed_process_leaves_what_the_next_one_needs(
    bench: Bench, llm: LlmServer, tmp_path: Path, model: str
) -> None:
    """SIGKILL in the middle of a model's call."""
    whole = transcript_of(job_process(tmp_path, llm))
    shutil.rmtree(bench.folder / "kept")
    bench.standin.forget_calls()
    bench.standin.at(model, "kill")
    assert job_process(tmp_path, llm).returncode == -signal.SIGKILL
    bench.standin.order(at={})
    bench.standin.forget_calls()
    assert transcript_of(job_process(tmp_path, llm)) == whole
    for earlier in ("whisper", "gliner", "pyannote", "treeseg"):
        if MODELS.index(earlier) < MODELS.index(model):
            assert bench.standin.count(earlier) == 0, f"{earlier} was called again"


def job_process(folder: Path, llm: LlmServer) -> subprocess.CompletedProcess[bytes]:
    settings = json.dumps({"openai_base_url": llm.openai_url})
    return subprocess.run(
        [sys.executable, Path(__file__).with_name("job_process.py"), folder, settings],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(path) for path in (ROOT, STANDIN))},
        capture_output=True,
        check=False,
        timeout=60,
    )


def transcript_of(ended: subprocess.CompletedProcess[bytes]) -> Any:
    """Its last line; before it come the log's."""
    assert ended.returncode == 0, ended.stderr.decode()
    return json.loads(ended.stdout.splitlines()[-1])


def test_another_process_goes_on(bench: Bench, llm: LlmServer) -> None:
    """As after a kill: a new engine."""
    kept = bench.checkpoints()
    killed_once(bench, bench.engine(openai_base_url=llm.openai_url), kept, "pyannote")
    bench.standin.forget_calls()
    bench.run(bench.engine(openai_base_url=llm.openai_url), checkpoints=kept)
    assert bench.standin.count("whisper") == bench.standin.count("gliner") == 0


def test_half_written_checkpoints_are_ignored(bench: Bench, llm: LlmServer) -> None:
    engine, kept = bench.engine(openai_base_url=llm.openai_url), bench.checkpoints()
    whole = bench.run(engine, checkpoints=kept).transcript
    files = [file for file in kept.folder.rglob("*.json") if "window" not in file.name]
    assert len(files) >= 4
    for at, file in enumerate(files):
        content = file.read_bytes()
        file.write_bytes([content[: len(content) // 2], b"", content.replace(b"a", b"b")][at % 3])
    assert bench.run(engine, checkpoints=kept).transcript == whole


def test_another_recordings_checkpoints_are_not_taken(bench: Bench, llm: LlmServer) -> None:
    engine = bench.engine(openai_base_url=llm.openai_url)
    folder = bench.folder / "kept"
    bench.run(engine, checkpoints=FolderCheckpoints(folder, {"recording": "one"}))
    bench.speech.segments = bench.speech.segments[:4]
    other = bench.run(engine, checkpoints=FolderCheckpoints(folder, {"recording": "other"}))
    assert len(other.texts) == 4


@pytest.mark.parametrize(
    ("changes", "recomputed"),
    [
        ({"entity_model": "other/gliner"}, "gliner"),
        ({"entity_threshold": 0.4}, "gliner"),
        ({"diarization_model": "other/pipeline"}, "pyannote"),
        ({"introduction_model": "other/setfit"}, "setfit"),
        ({"topic_model": "other-llm"}, "chat"),
        ({"min_topic_sentences": 3}, "treeseg"),
    ],
)
def test_another_configuration_recomputes_its_step(
    bench: Bench, llm: LlmServer, changes: dict[str, Any], recomputed: str
) -> None:
    """D22."""
    kept = bench.checkpoints()
    bench.run(openai_base_url=llm.openai_url, checkpoints=kept)
    bench.standin.forget_calls()
    bench.run(openai_base_url=llm.openai_url, checkpoints=kept, **changes)
    assert bench.standin.count(recomputed) >= 1
    assert bench.standin.count("whisper") == 0


def test_other_options_recompute_what_depends_on_them(bench: Bench, llm: LlmServer) -> None:
    kept, engine = bench.checkpoints(), bench.engine(openai_base_url=llm.openai_url)
    bare = bench.run(engine, checkpoints=kept, options=Options(diarize=False, topics=False))
    assert set(bare.speakers) == {None}
    full = bench.run(engine, checkpoints=kept, options=Options(max_topics=3))
    assert "Ann Miller" in full.speakers
    assert full.transcript.topics


def test_a_folder_that_is_gone_costs_nothing_but_the_next_attempt(bench: Bench, llm: LlmServer) -> None:
    kept = FolderCheckpoints(bench.folder / "no" / "such", {"recording": "one"})
    assert not bench.run(openai_base_url=llm.openai_url, checkpoints=kept).transcript.partial
