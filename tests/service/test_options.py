"""What a client asks of its job, and what an operator allows one, all the way through."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx

from worker.processes import REFUSED_EXIT

if TYPE_CHECKING:
    from tests.support.service import Service


def document(service: Service, task_id: str) -> dict[str, Any]:
    answer = service.http.get(f"/download/{task_id}", params={"fmt": "json"})
    assert answer.status_code == httpx.codes.OK, answer.text
    return dict(answer.json())


def test_a_job_gets_the_engine_that_it_asks_for_and_the_result_says_why(service: Service) -> None:
    service.settings = {"ENGINE": "simulated", "ENGINES_ALLOWED": "whisper"}
    service.start_all()
    default, asked = service.submit(), service.submit(engine="whisper")
    for task_id, engine, reason in (
        (default, "simulated", "ENGINE=simulated"),
        (asked, "whisper", "the job asked for it"),
    ):
        service.wait_for(task_id, "completed")
        found = document(service, task_id)
        assert (found["engine"], found["engine_reason"]) == (engine, reason)


def test_a_language_that_the_model_does_not_know_is_the_jobs_clear_error(service: Service) -> None:
    service.start_all()
    status = service.wait_for(service.submit(language="de"), "failed")
    assert status["error"]["code"] == "engine_failed"
    assert "English only" in status["error"]["message"]
    service.wait_for(service.submit(language="en"), "completed")


def test_an_engine_that_takes_too_long_is_stopped_and_the_next_job_runs(service: Service) -> None:
    hangs_once = {"speed": 1000, "misbehave": "hang_stubbornly", "once": str(service.folder / "hung")}
    service.settings = {
        "ENGINE": "simulated",
        "SIMULATED_SCRIPT": json.dumps(hangs_once),
        "TIME_LIMIT_X": "1",
        "TIME_LIMIT_MIN_S": "2",
    }
    worker = service.start_all()
    too_long = service.submit()
    status = service.wait_for(too_long, "failed")
    assert status["error"]["code"] == "time_limit"
    assert "TIME_LIMIT_X" in status["error"]["message"]
    assert status["attempt"] == 1
    service.wait_for(service.submit(), "completed")
    assert worker.popen.poll() is None
    expected = {("cpu", "time_limit"): 1, ("cpu", "completed"): 1}
    service.wait(lambda: service.outcomes() == expected, 10, "both to be counted")


def test_why_no_worker_takes_jobs_is_told_to_whoever_asks(service: Service) -> None:
    service.start_gateway()
    assert service.start("worker", "worker", WHISPER_MODEL="/nowhere").popen.wait(30) == REFUSED_EXIT
    checks = {check["name"]: check for check in service.http.get("/health/ready").json()["checks"]}
    assert not checks["workers"]["ok"]
    assert "model folder /nowhere" in checks["workers"]["reason"]
    service.start_worker()
    service.wait(lambda: service.http.get("/health/ready").status_code == httpx.codes.OK, 20, "readiness")


def test_a_full_gpu_sends_the_job_to_the_cpu_where_the_operator_wants_that(service: Service) -> None:
    service.settings = {
        "ENGINE": "simulated",
        "SIMULATED_SCRIPT": json.dumps({"misbehave": "gpu_oom", "once": str(service.folder / "full")}),
        "ON_GPU_OOM": "cpu",
    }
    service.start_all()
    status = service.wait_for(service.submit(), "completed")
    assert [warning["code"] for warning in status["warnings"]] == ["ran_on_cpu"]
    assert status["attempt"] == 1
