"""What holds for every answer, and what an operator sees: health, docs, logs, start-up."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
import uvicorn
from fastapi import FastAPI

from gateway import protocol
from gateway.__main__ import server_config
from ops.stack import free_port
from tests.gateway.jobs import wav
from tests.gateway.raw import PART_HEAD, connect, post_head, read_answer
from tests.support.service import ROOT
from tests.support.waiting import wait_until
from worker.gpu.report import State, WorkerReport, publish_report
from worker.heartbeat import WORKERS_KEY

if TYPE_CHECKING:
    from tests.gateway.jobs import Jobs
    from tests.support.service import Service

ENGINES = ("faster_whisper", "ctranslate2", "av", "numpy", "onnxruntime", "torch")
PATHS = [
    "/health/live",
    "/status/x",
    "/nothing/here",
    "/docs",
    "/openapi.json",
    "/static-offline-docs/swagger-ui.css",
]


@pytest.mark.parametrize("path", PATHS)
def test_headers_of_every_answer(served: Service, path: str) -> None:
    headers = served.http.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "default-src" in headers["content-security-policy"]
    assert "server" not in headers
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])


@pytest.mark.parametrize(
    ("given", "is_kept"), [("abc-1.2_3", True), ("a b", False), ("x" * 65, False), ("a\tb", False)]
)
def test_the_request_id(served: Service, given: str, is_kept: bool) -> None:
    answer = served.http.get("/health/live", headers={"x-request-id": given})
    assert (answer.headers["x-request-id"] == given) is is_kept


def test_wrong_paths_and_methods_are_problems(served: Service) -> None:
    missing = served.http.get("/nothing/here")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = served.http.put("/queue")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"
    assert {missing.headers["content-type"], wrong.headers["content-type"]} == {"application/problem+json"}


def test_one_line_a_request(served: Service, jobs: Jobs) -> None:
    task_id = jobs.wait(file_name="secret-name.wav")
    served.http.get(f"/status/{task_id}", headers={"x-request-id": "find-me"})
    served.http.get("/private/secret-path", headers={"x-request-id": "find-me"})
    served.http.get("/status/secret-id", headers={"x-request-id": "find-me"})
    process = served.processes[0]

    def lines() -> list[dict[str, object]]:
        return [json.loads(line) for line in process.log.splitlines() if "find-me" in line]

    wait_until(lambda: len(lines()) == 3, 5, "the three lines")
    known, wrong, unknown = lines()
    assert (known["event"], known["method"], known["status"]) == ("request_finished", "GET", 200)
    assert (known["route"], known["task_id"]) == ("/status/{task_id}", task_id)
    assert isinstance(known["duration_ms"], float)
    assert isinstance(known["sent_bytes"], int)
    assert (wrong["route"], wrong["status"], wrong["task_id"]) == ("unmatched", 404, None)
    assert unknown["task_id"] is None
    assert "secret" not in process.log


def test_ready_only_with_redis_cache_and_a_worker(served: Service, jobs: Jobs) -> None:
    without = served.http.get("/health/ready")
    assert (without.status_code, without.json()["status"]) == (503, "not_ready")
    checks = {check["name"]: check for check in without.json()["checks"]}
    assert {name: check["ok"] for name, check in checks.items()} == {
        "cache": True,
        "redis": True,
        "workers": False,
    }
    assert "no worker" in checks["workers"]["reason"]
    jobs.client.zadd(WORKERS_KEY, {"w@test": time.time()})
    ready = served.http.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert not list(served.cache.rglob("tmp*"))


def test_not_ready_where_workers_live_but_no_device_works(served: Service, jobs: Jobs) -> None:
    now = time.time()
    jobs.client.zadd(WORKERS_KEY, {"gpu0@test": now})
    told = WorkerReport(worker="gpu0@test", at=now, state=State.FAULTY, reason="GPU is lost", admitted=False)
    publish_report(jobs.client, told)
    answer = served.http.get("/health/ready")
    checks = {check["name"]: check for check in answer.json()["checks"]}
    assert answer.status_code == 503
    assert checks["workers"]["reason"] == "no worker can work: 1 red: jobs wait, see GET /gpus"


def test_the_docs_need_no_internet(served: Service) -> None:
    page = served.http.get("/docs")
    assert page.status_code == 200
    assert not re.findall(r"""(?:https?:)?//[^\s"'<>]+""", page.text)
    assets = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert len(assets) == 3
    for asset in assets:
        assert served.http.get(asset).status_code == 200


def test_openapi_describes_bodies_and_problems(served: Service) -> None:
    spec = served.http.get("/openapi.json").json()
    body = spec["paths"]["/transcribe"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert body["schema"]["properties"]["file"]["format"] == "binary"
    answers = spec["paths"]["/transcribe"]["post"]["responses"]
    assert " ".join(sorted(answers)) == "202 400 401 403 408 409 413 415 422 429 500 503 507"
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert all(answers[status]["content"] == problem for status in answers if status != "202")
    result = spec["paths"]["/download/{task_id}"]["get"]["responses"]["200"]["content"]
    assert result["application/json"]["schema"] == {"$ref": "#/components/schemas/Document"}
    assert "text/markdown" in result
    assert "Segment" in spec["components"]["schemas"]
    assert "HTTPValidationError" not in json.dumps(spec)


def test_no_engine_is_loaded() -> None:
    code = (
        "import sys; from gateway.app import create_app; from worker.settings import Settings; "
        f"create_app(Settings()).openapi(); print([m for m in {ENGINES} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [("127.0.0.1", None, "Address already in use"), ("192.0.2.1", 1, "Cannot assign requested address")],
)
def test_an_address_that_can_not_be_had(served: Service, host: str, port: int | None, told: str) -> None:
    port = port or served.port
    result = subprocess.run(
        [sys.executable, "-m", "gateway"],
        cwd=ROOT,
        env={**served.environment, "GATEWAY_HOST": host, "GATEWAY_PORT": str(port)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert result.returncode == 1
    assert result.stderr == f"GATEWAY_PORT: can't listen on {host} port {port}: {told}\n"


def test_a_head_without_end_is_refused(served: Service) -> None:
    with connect(served) as connection:
        connection.sendall(b"GET /queue HTTP/1.1\r\nHost: test\r\nX-Big: " + bytes([97]) * 70_000)
        status, _ = read_answer(connection)
        assert status == 431
        assert connection.recv(1) == b""


def test_requests_one_after_another_on_one_connection(served: Service) -> None:
    """The bound on a head is no bound on a connection; bodies do not count."""
    head = b"GET /health/live HTTP/1.1\r\nHost: test\r\nX-Big: " + bytes([97]) * 40_000 + b"\r\n\r\n"
    sent = PART_HEAD + wav(200_000) + b"\r\n--B--\r\n"
    with connect(served) as connection:
        for _ in range(3):
            connection.sendall(head)
            assert read_answer(connection)[0] == 200
            connection.sendall(post_head(f"Content-Length: {len(sent)}") + sent)
            assert read_answer(connection)[0] == 202


def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_WITHIN_S", 0.2)
    app = FastAPI()
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with socket.create_connection(listener.getsockname(), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n")
            assert connection.recv(1) == b""
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def test_sigterm_ends_it_cleanly(served: Service) -> None:
    process = served.start("second", "gateway", GATEWAY_PORT=str(free_port()))
    served.wait(lambda: "Application startup complete" in process.log, 20, "a second gateway to be up")
    assert process.end() in (0, -15)  # uvicorn passes the signal on once it has shut down
    assert "Application shutdown complete" in process.log
    served.processes.remove(process)
