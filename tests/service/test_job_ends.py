"""Ends of jobs that no other test brings about: each has its own code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.service import Service

FULL_GPU = {"SIMULATED_SCRIPT": json.dumps({"misbehave": "gpu_oom"})}
NO_MODEL = {"ENGINES_ALLOWED": "whisper", "WHISPER_MODEL": "/nowhere"}
FULL_DISK = {"SIMULATED_SCRIPT": json.dumps({"misbehave": "no_space"})}


@pytest.mark.parametrize(
    ("code", "worker", "engine"),
    [
        ("out_of_gpu_memory", FULL_GPU, "simulated"),
        ("engine_unavailable", NO_MODEL, "whisper"),
        ("interrupted", FULL_DISK, "simulated"),
    ],
)
def test_a_job_ends_with_the_code_of_what_went_wrong(
    service: Service, code: str, worker: dict[str, str], engine: str
) -> None:
    service.settings = {"ENGINE": "simulated", "ENGINES_ALLOWED": "simulated,whisper", "MAX_ATTEMPTS": "1"}
    service.start_gateway()
    task_id = service.submit(engine=engine)
    service.start_worker(**worker)
    status = service.wait_for(task_id, "failed")
    assert status["error"]["code"] == code


def test_jobs_wait_while_the_disk_is_full_and_lose_no_attempt(service: Service) -> None:
    service.settings = {"ENGINE": "simulated", "MAX_ATTEMPTS": "1"}
    service.start_gateway()
    task_ids = [service.submit() for _ in range(2)]
    worker = service.start_worker("full", MIN_FREE_BYTES=str(2**62))
    service.wait(lambda: "MIN_FREE_BYTES" in str(readiness(service)["workers"]), 30, "the worker to say why")
    assert not readiness(service)["workers"]["ok"]
    assert [service.status(task_id)["attempt"] for task_id in task_ids] == [0, 0]
    worker.end()
    service.start_worker("roomy")
    assert [service.wait_for(task_id, "completed")["attempt"] for task_id in task_ids] == [1, 1]


def readiness(service: Service) -> dict[str, Any]:
    checks = service.http.get("/health/ready").json()["checks"]
    return {check["name"]: check for check in checks}


def test_a_recording_that_is_lost_is_told(service: Service) -> None:
    service.settings = {"ENGINE": "simulated"}
    service.start_gateway()
    task_id = service.submit()
    (recording,) = (service.cache / "jobs").glob(f"**/{task_id}/*")
    recording.unlink()
    service.start_worker()
    assert service.wait_for(task_id, "failed")["error"]["code"] == "input_missing"
