"""The engine mst under the whole service, on the stand-in of its packages; Whisper is real."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.engines.mst.bench import STANDIN, Standin
from tests.engines.mst.llm_server import LlmServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.service import Service

NAMES = {"Paul": "Person", "Anna": "Person", "Monday": "Date"}


@pytest.fixture
def llm() -> Iterator[LlmServer]:
    server = LlmServer().start()
    yield server
    server.stop()


@pytest.fixture
def standin(service: Service, llm: LlmServer, tmp_path: Path) -> Standin:
    folder = tmp_path / "standin"
    folder.mkdir()
    made = Standin(folder)
    made.order(names=NAMES)
    service.settings = {
        "PYTHONPATH": os.pathsep.join([str(STANDIN), os.environ.get("PYTHONPATH", "")]),
        "STANDIN_ORDERS": str(made.orders_file),
        "STANDIN_CALLS": str(made.calls_file),
        "HF_TOKEN": "hf_verysecret",
        "OPENAI_BASE_URL": llm.openai_url,
        "OPENAI_API_KEY": "sk-verysecret",
        "MIN_TOPIC_SENTENCES": "1",
        "DEVICE": "cpu",
    }
    return made


def test_auto_takes_it_and_the_document_has_all_of_it(service: Service, standin: Standin) -> None:
    worker = service.start_all()
    task_id = service.submit(max_topics="2")
    service.wait_for(task_id, "completed")
    document = service.http.get(f"/download/{task_id}").json()
    assert document["engine"] == "mst"
    assert "ENGINE=auto" in document["engine_reason"]
    assert not document["partial"]
    assert len(document["topics"]) == 2
    assert all(topic["headline"].startswith("Headline: ") for topic in document["topics"])
    assert {segment["speaker_name"] for segment in document["segments"]} >= {"SPEAKER_00"}
    markdown = service.http.get(f"/download/{task_id}?fmt=md").text
    assert document["topics"][1]["headline"].partition(": ")[2] in markdown
    logs = "".join(process.log for process in service.processes)
    assert "verysecret" not in logs + json.dumps(document) + markdown
    assert '"engine_chosen"' in worker.log


def test_a_child_killed_in_a_late_step_is_gone_on_with(service: Service, standin: Standin) -> None:
    standin.at("pyannote", "hang")
    worker = service.start_all()
    task_id = service.submit()
    service.wait(lambda: standin.count("pyannote"), 60, "diarization to begin")
    for child in worker.children():
        child.kill()
    standin.order(at={})
    standin.forget_calls()
    status = service.wait_for(task_id, "completed")
    assert status["attempt"] == 2
    assert standin.count("gliner") == 0
    resumed = re.findall(r'"checkpoint": "(\w+)".*"step_resumed"', worker.log)
    assert resumed == ["sentences", "entities", "spellings", "corrected"]
    assert not service.http.get(f"/download/{task_id}").json()["partial"]


def test_a_job_is_cancelled_while_a_model_hangs(service: Service, standin: Standin) -> None:
    """Its thread must not be left to stand in the next job's way."""
    standin.at("pyannote", "hang")
    service.start_all()
    task_id = service.submit()
    service.wait(lambda: standin.count("pyannote"), 60, "diarization to begin")
    assert service.http.post(f"/cancel/{task_id}").status_code == httpx.codes.OK
    standin.order(at={"pyannote": {"do": "hang", "on": [1]}})
    service.wait_for(service.submit(), "completed")


def test_a_failed_step_shows_in_status_and_result(service: Service, standin: Standin) -> None:
    standin.at("pyannote", "raise")
    service.start_all()
    task_id = service.submit()
    status = service.wait_for(task_id, "completed")
    assert status["partial"]
    assert [(one["code"], one["step"]) for one in status["warnings"]] == [("diarize_failed", "diarize")]


def test_a_missing_model_is_told_at_the_start(service: Service, standin: Standin) -> None:
    standin.order(gated=["pyannote/speaker-diarization-3.1"])
    service.start_gateway()
    worker = service.start("worker", "worker")
    assert worker.popen.wait(30) != 0
    assert "HF_TOKEN" in worker.log.splitlines()[-1]
    answer = service.http.get("/health/ready")
    assert answer.status_code == 503
    assert "pyannote/speaker-diarization-3.1" in answer.text


def test_jobs_wait_for_a_language_model_that_is_required(
    service: Service, standin: Standin, llm: LlmServer
) -> None:
    llm.mood = "error"
    service.settings |= {"LLM_REQUIRED": "true"}
    service.start_gateway()
    service.start_sweeper()
    service.start("worker-one", "worker", "--name", "one@test")
    task_id = service.submit()

    def says_why() -> bool:
        answer = service.http.get("/health/ready")
        return answer.status_code == 503 and "language model" in answer.text

    service.wait(says_why, 30, "the health report to say why")
    assert service.status(task_id)["status"] == "pending"
    llm.mood = "fine"
    assert not service.wait_for(task_id, "completed")["partial"]
