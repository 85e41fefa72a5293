"""Jobs whose results go to a bucket: delivered or kept here, whatever dies in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from tests.delivery.receivers import Receiver, answer, hang
from tests.gateway.callers import ALICE, BOB, CLIENT_KEYS, key
from tests.support.s3_server import S3Server
from tests.support.service import ROOT, SAMPLE, START_S, Service
from tests.support.strikes import Gate, Moment
from worker import streams
from worker.app import TRANSCRIBE_QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.delivery.receivers import Answer
    from tests.support.service import Process

DENIED = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
KEYS = ["team/anonymous/calls/one.json", "team/anonymous/calls/one.md"]
URLS = [f"s3://results/{key}" for key in KEYS]


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture
def delivering(service: Service, s3: S3Server) -> Service:
    service.settings |= {"ENGINE": "simulated", **s3.settings}
    service.start_gateway()
    service.start_sweeper()
    return service


def ended(service: Service, task_id: str) -> dict[str, Any]:
    def is_over() -> dict[str, Any] | None:
        status = service.status(task_id)
        return status if status["status"] in {"completed", "failed"} else None

    found: dict[str, Any] = service.wait(is_over, 60, f"job {task_id} to end")
    return found


def start_at(service: Service, folder: Path, moment: Moment) -> tuple[Gate, Process]:
    gate = Gate(folder, moment)
    folder.mkdir(exist_ok=True)
    worker = service.start("worker-struck", "tests.support.strikes", moment, str(folder))
    return gate, worker


def has_ended(gate: Gate, worker: Process) -> bool:
    """By itself, or because its parent woke first and killed it."""
    child, _ = gate.parked()
    finished = gate.left.exists() and '"attempt_finished"' in worker.log
    return finished or not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"


def deliver_again(service: Service, task_id: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "ops", "deliver", task_id]
    return subprocess.run(
        argv, cwd=ROOT, env=service.environment, capture_output=True, text=True, timeout=60, check=False
    )


def require_delivered(service: Service, s3: S3Server, task_id: str) -> None:
    status = ended(service, task_id)
    assert (status["status"], status["warnings"], status["s3_urls"]) == ("completed", [], URLS)
    assert s3.keys() == KEYS
    assert json.loads(s3.read(KEYS[0]))["task_id"] == task_id
    assert s3.read(KEYS[1]).startswith(b"# Transcribed recording")
    told = service.http.get(f"/download/{task_id}")
    assert (told.status_code, told.json()["code"]) == (409, "s3_delivered")
    assert told.json()["locations"] == URLS
    service.wait(lambda: service.files() == [], 10, "no file to be left here")


def require_kept(service: Service, task_id: str, told: str) -> None:
    status = ended(service, task_id)
    assert (status["status"], status["s3_urls"]) == ("completed", [])
    [warning] = status["warnings"]
    assert (warning["code"], warning["step"]) == ("s3_not_delivered", "deliver")
    assert told in warning["reason"]
    assert service.download(task_id).json()["task_id"] == task_id
    service.wait(lambda: len(service.files()) == 1, 10, "nothing but the result to be left here")


def test_each_key_has_a_folder_of_its_own(service: Service, s3: S3Server) -> None:
    service.settings |= {"ENGINE": "simulated", "API_KEYS": CLIENT_KEYS, **s3.settings}
    service.start_all()
    made = {}
    for secret in (ALICE, BOB):
        with SAMPLE.open("rb") as recording:
            answer = service.http.post(
                "/transcribe", files={"file": recording}, data={"s3_path": "one"}, headers=key(secret)
            )
        made[secret] = answer.json()["task_id"]
    for secret, task_id in made.items():
        service.wait(
            lambda task_id=task_id, secret=secret: (
                service.http.get(f"/status/{task_id}", headers=key(secret)).json()["status"] == "completed"
            ),
            60,
            "the job to end",
        )
    assert s3.keys() == [
        f"team/{name}/one.{ending}" for name in ("alice", "bob") for ending in ("json", "md")
    ]
    assert json.loads(s3.read("team/bob/one.json"))["task_id"] == made[BOB]
    alices = {"url": "s3://results/team/alice/one.json"}
    answer = service.http.post("/transcribe", json=alices, headers=key(BOB))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("moment", [Moment.KEPT, Moment.HALF_UPLOADED, Moment.UPLOADED, Moment.COMMITTED])
def test_a_worker_killed_around_the_delivery(
    delivering: Service, s3: S3Server, tmp_path: Path, moment: Moment
) -> None:
    gate, worker = start_at(delivering, tmp_path / "gate", moment)
    task_id = delivering.submit(s3_path="calls/one")
    delivering.wait(gate.reached.exists, START_S, f"the job to be {moment}")
    there = {Moment.KEPT: 0, Moment.HALF_UPLOADED: 1}.get(moment, 2)
    assert len(s3.keys()) == there
    worker.kill()
    # Its engine fails: were it asked again, the job would fail.
    delivering.start_worker("rescuer", SIMULATED_SCRIPT='{"misbehave": "raise"}')
    require_delivered(delivering, s3, task_id)
    assert delivering.status(task_id)["attempt"] == (1 if moment is Moment.COMMITTED else 2)


@pytest.mark.parametrize("moment", [Moment.KEPT, Moment.UPLOADED])
def test_every_worker_killed_around_the_delivery_leaves_the_result_here(
    delivering: Service, s3: S3Server, tmp_path: Path, moment: Moment
) -> None:
    """MAX_ATTEMPTS of 1: the sweeper buries the job, and finds its result."""
    delivering.settings["MAX_ATTEMPTS"] = "1"
    next(p for p in delivering.processes if p.name == "sweeper").end()
    delivering.start_sweeper()
    gate, worker = start_at(delivering, tmp_path / "gate", moment)
    task_id = delivering.submit(s3_path="calls/one")
    delivering.wait(gate.reached.exists, START_S, f"the job to be {moment}")
    worker.kill()
    require_kept(delivering, task_id, "the worker died")
    assert delivering.wait(delivering.outcomes, 10, "the job to be counted") == {("none", "completed"): 1}
    with delivering.redis.client() as client:
        delivering.wait(
            lambda: streams.stats(client, TRANSCRIBE_QUEUE).dead == 0, 10, "no dead letter to be left"
        )
    assert deliver_again(delivering, task_id).stdout.split() == URLS
    require_delivered(delivering, s3, task_id)
    assert deliver_again(delivering, task_id).stdout.split() == URLS


def test_a_frozen_worker_that_wakes_after_another_has_delivered(
    delivering: Service, s3: S3Server, tmp_path: Path
) -> None:
    gate, worker = start_at(delivering, tmp_path / "gate", Moment.HALF_UPLOADED)
    task_id = delivering.submit(s3_path="calls/one")
    delivering.wait(gate.reached.exists, START_S, "one object to be there")
    frozen = [worker.pid, *(child.pid for child in worker.children())]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    delivering.start_worker("rescuer")
    require_delivered(delivering, s3, task_id)
    gate.release()
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    delivering.wait(lambda: has_ended(gate, worker), 20, "the late attempt to end")
    require_delivered(delivering, s3, task_id)


@pytest.mark.parametrize(
    ("answers", "told"),
    [([answer(403, DENIED)], "AccessDenied, status 403"), ([answer(503)], "could not be reached")],
)
def test_a_bucket_that_refuses_leaves_the_result_here(
    service: Service, s3: S3Server, answers: list[Answer], told: str
) -> None:
    """The second time after all attempts, with their pauses."""
    with Receiver(answers) as broken:
        service.settings |= {
            "ENGINE": "simulated",
            **s3.settings,
            "S3_ENDPOINT_URL": broken.url,
            "MAX_ATTEMPTS": "2",
        }
        service.start_all()
        task_id = service.submit(s3_path="calls/one")
        require_kept(service, task_id, told)
        failed = deliver_again(service, task_id)
        assert (failed.returncode, failed.stdout) == (1, "")
        require_kept(service, task_id, told)
    service.settings |= s3.settings
    assert deliver_again(service, task_id).returncode == 0
    require_delivered(service, s3, task_id)


def test_a_job_that_is_cancelled_while_it_is_delivered_has_failed(service: Service, s3: S3Server) -> None:
    with Receiver([hang]) as slow:
        service.settings |= {"ENGINE": "simulated", **s3.settings, "S3_ENDPOINT_URL": slow.url}
        service.start_all()
        task_id = service.submit(s3_path="calls/one")
        service.wait(lambda: slow.received, 30, "the upload to begin")
        assert service.status(task_id)["progress"]["step"] == "deliver"
        assert service.http.post(f"/cancel/{task_id}").status_code == httpx.codes.OK
    assert ended(service, task_id)["error"]["code"] == "cancelled"
    assert service.files() == []


def test_what_an_operator_can_not_deliver(delivering: Service) -> None:
    delivering.start_worker()
    task_id = delivering.submit()
    delivering.wait_for(task_id, "completed")
    told = deliver_again(delivering, task_id)
    assert (told.returncode, told.stderr) == (1, "error: the job was submitted without s3_path\n")
    assert "no job" in deliver_again(delivering, "nonsense").stderr


def test_paths_and_buckets_that_are_refused_at_once(delivering: Service) -> None:
    def refused(**fields: str) -> httpx.Response:
        with SAMPLE.open("rb") as file:
            return delivering.http.post("/transcribe", files={"file": file}, data=fields)

    for path in ("/x", "a/../b", "a//b", "a/", "a\x07b", "a\\b", "x" * 513, "ä" * 400):
        answered = refused(s3_path=path)
        assert (answered.status_code, answered.json()["code"]) == (422, "invalid_request"), path
        assert answered.json()["errors"][0]["loc"] == ["body", "s3_path"]
    assert refused(webhook_url="https://example.org/").json()["code"] == "webhook_not_configured"
    assert delivering.files() == []
    delivering.settings = {"ENGINE": "simulated"}
    delivering.processes[0].end()
    delivering.start_gateway()
    answered = refused(s3_path="calls/one")
    assert (answered.status_code, answered.json()["code"]) == (422, "s3_not_configured")
    assert delivering.files() == []
