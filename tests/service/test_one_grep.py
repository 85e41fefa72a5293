"""One grep of a task id tells the job's whole life, over all processes and through the death of a worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.service.test_spine import silence
from worker.jobs.keys import job_key

if TYPE_CHECKING:
    from tests.support.service import Service

REQUEST_ID = "monday-0815"
SLOW = {"ENGINE": "simulated", "SIMULATED_SCRIPT": json.dumps({"speed": 20})}


def grep(service: Service, text: str) -> list[dict[str, Any]]:
    """The lines of all logs that have this text, in the order of their times."""
    logs = {process.log_path: process.log for process in service.processes}
    lines = [json.loads(line) for log in logs.values() for line in log.splitlines() if text in line]
    return sorted(lines, key=lambda line: str(line["timestamp"]))


def story(service: Service, task_id: str) -> list[tuple[str, str]]:
    """Who said what of the job, without the polls."""
    lines = [line for line in grep(service, task_id) if line.get("method") != "GET"]
    return [
        (line["process"].partition("-")[0], line["event"].replace(f"[{task_id}]", "")[:25].strip())
        for line in lines
    ]


def post(service: Service, seconds: int) -> str:
    recording = silence(service.folder / "long.wav", seconds)
    with recording.open("rb") as file:
        answer = service.http.post(
            "/transcribe",
            files={"file": ("private.wav", file, "audio/wav")},
            headers={"X-Request-ID": REQUEST_ID},
        )
    return str(answer.raise_for_status().json()["task_id"])


def test_a_grep_of_the_task_id_tells_all_from_the_request_to_the_end(service: Service) -> None:
    service.settings |= SLOW
    service.start_gateway()
    service.start_sweeper()
    first = service.start_worker("first")
    task_id = post(service, 120)
    service.wait(lambda: first.said('"step": "simulate"'), 30, "the engine to begin")
    first.kill()
    service.wait(lambda: "lease_expired" in str(story(service, task_id)), 30, "a sweep")
    service.start_worker("second")
    service.wait_for(task_id, "completed")
    ended = ("second@test", "Task transcribe succeeded")
    service.wait(lambda: ended in story(service, task_id), 10, "the parent to say that it ended")

    told = story(service, task_id)
    order = [
        ("gateway", "job_accepted"),
        ("first@test", "job_claimed"),
        ("first@test", "step_entered"),
        ("sweeper", "lease_expired"),
        ("second@test", "Task transcribe received"),
        ("second@test", "job_claimed"),
        ("second@test", "step_entered"),
        ("second@test", "attempt_finished"),
        ended,
    ]
    places = [told.index(step) for step in order]
    assert places == sorted(places), told
    assert ("first@test", "Task transcribe received") in told
    assert ("gateway", "request_finished") in told

    lines = grep(service, task_id)
    claims = [line for line in lines if line["event"] == "job_claimed"]
    assert [(line["attempt"], line["request_id"]) for line in claims] == [(1, REQUEST_ID), (2, REQUEST_ID)]
    (accepted,) = [line for line in lines if line["event"] == "job_accepted"]
    assert accepted["request_id"] == REQUEST_ID
    (request,) = [line for line in lines if line.get("method") == "POST"]
    assert (request["request_id"], request["status"]) == (REQUEST_ID, 202)
    steps = [(line["attempt"], line["step"]) for line in lines if line["event"] == "step_entered"]
    assert steps == [(1, "convert"), (1, "simulate"), (2, "convert"), (2, "simulate")]
    (expired,) = [line for line in lines if line["event"] == "lease_expired"]
    assert expired["outcome"] == "requeued"
    assert not grep(service, "private.wav")


def test_a_lost_lease_is_told_by_the_same_word_where_a_worker_finds_it(service: Service) -> None:
    service.settings |= SLOW
    service.start_gateway()
    first = service.start_worker("first")
    task_id = post(service, 60)
    service.wait(lambda: first.said('"step": "simulate"'), 30, "the engine to begin")
    first.kill()
    service.start_worker("second")
    service.wait_for(task_id, "completed")
    (expired,) = [line for line in grep(service, task_id) if line["event"].startswith("lease_expired")]
    assert expired["process"] == "second@test"


def test_a_record_of_before_has_no_request_id_and_is_done_all_the_same(service: Service) -> None:
    service.start_gateway()
    task_id = post(service, 2)
    with service.redis.client() as client:
        assert client.hdel(job_key(task_id), "request_id") == 1
    service.settings |= SLOW
    service.start_worker("new")
    service.wait_for(task_id, "completed")
    (claim,) = [line for line in grep(service, task_id) if line["event"] == "job_claimed"]
    assert claim["request_id"] is None
