"""Who may do what, over HTTP: keys, owners, the operator, addresses, origins."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from starlette.datastructures import Headers

from gateway.access import refuse_foreign_page
from gateway.errors import Forbidden
from gateway.failures import BURST, REFILL_S
from ops.stack import free_port
from tests.gateway.callers import ALICE, BOB, CLIENT_KEYS, OPERATOR_KEY, OPS, key
from tests.gateway.jobs import Jobs, started, wav
from tests.gateway.raw import connect, post_head, read_answer
from tests.support.service import ROOT
from tests.support.waiting import wait_until
from worker.jobs import new_task_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.support.service import Service

FILES = {"file": ("a.wav", wav(), "audio/wav")}
OF_A_JOB = [("GET", "/status/{}"), ("GET", "/download/{}"), ("POST", "/cancel/{}"), ("DELETE", "/release/{}")]
ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def shared_guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text(OPERATOR_KEY)
    service = started(
        folder, API_KEYS=CLIENT_KEYS, API_KEYS_FILE=str(folder / "keys"), CORS_ORIGINS=f"{ORIGIN}, http://x"
    )
    yield service
    service.end()


def comparable(answer: httpx.Response) -> tuple[int, str, dict[str, str]]:
    headers = {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "date"}}
    return answer.status_code, answer.text, headers


def endpoints(service: Service) -> list[tuple[str, str]]:
    """Everything that there is but health, with an id of no job."""
    paths = service.http.get("/openapi.json").json()["paths"]
    return [
        (method.upper(), re.sub(r"\{\w+\}", new_task_id(), path))
        for path in paths
        for method in paths[path]
        if not path.startswith("/health/")
    ]


def test_every_endpoint_but_health_and_docs_wants_a_key(guarded: Service) -> None:
    asked = endpoints(guarded)
    assert len(asked) >= 6
    for number, (method, path) in enumerate(asked):
        for headers in ({}, key("tk_wrong", f"192.0.2.{number}"), {"authorization": "Basic YWxpY2U6eA=="}):
            answer = guarded.http.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    for path in ("/health/live", "/docs", "/openapi.json"):
        assert guarded.http.get(path).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [key(ALICE), {"x-api-key": ALICE}, {"authorization": f"bearer {ALICE}", "x-api-key": "tk_wrong"}],
)
def test_how_a_key_may_be_sent(guarded: Service, theirs: Jobs, headers: dict[str, str]) -> None:
    answer = guarded.http.post("/transcribe", files=FILES, headers=headers)
    assert answer.status_code == 202
    record = theirs.store.get(answer.json()["task_id"])
    assert record is not None
    assert record.owner == "alice"
    assert guarded.http.get(answer.headers["location"], headers=headers).status_code == 200


def test_an_upload_without_a_key_is_refused_before_it_is_read(guarded: Service) -> None:
    before = guarded.files()
    with connect(guarded) as connection:
        connection.sendall(post_head("Content-Length: 1000000"))
        assert read_answer(connection)[0] == 401
    assert guarded.files() == before


@pytest.mark.parametrize(("method", "path"), OF_A_JOB)
def test_another_keys_job_does_not_exist(guarded: Service, theirs: Jobs, method: str, path: str) -> None:
    kept = theirs.complete(owner="alice")
    gone = theirs.complete(owner="alice")
    assert theirs.store.release(gone, "alice")
    for caller in (BOB, OPS):
        missing = guarded.http.request(method, path.format(new_task_id()), headers=key(caller))
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        for task_id in (kept, gone):
            answer = guarded.http.request(method, path.format(task_id), headers=key(caller))
            assert comparable(answer) == comparable(missing)
    assert theirs.folder(kept).path.exists()
    assert guarded.http.get(f"/status/{kept}", headers=key(ALICE)).json()["status"] == "completed"
    assert guarded.http.get(f"/status/{gone}", headers=key(ALICE)).status_code == 410


@pytest.mark.parametrize(("method", "path"), OF_A_JOB)
def test_another_keys_job_costs_the_same_reads_as_none(
    guarded: Service, theirs: Jobs, method: str, path: str
) -> None:
    foreign, missing = theirs.complete(owner="alice"), new_task_id()
    reads = [commands(guarded, method, path.format(task_id), task_id) for task_id in (foreign, missing)]
    assert reads[0] == reads[1] != []


def commands(service: Service, method: str, path: str, task_id: str) -> list[list[str]]:
    """What one of bob's requests asks of Redis, with the job's id and its hash left out."""
    seen: list[str] = []
    with service.redis.client() as client, client.monitor() as monitor:
        assert service.http.request(method, path, headers=key(BOB)).status_code == 404
        client.echo("end")
        for command in monitor.listen():
            if command["command"].startswith("ECHO"):
                break
            seen.append(command["command"])
    return [re.sub(r"gone:\w+", "gone", command.replace(task_id, "id")).split() for command in seen]


def test_wrong_keys_make_an_address_wait(guarded: Service) -> None:
    for _ in range(BURST):
        assert guarded.http.get("/queue", headers=key("tk_wrong", "203.0.113.1")).status_code == 401
    for secret in ("tk_wrong", ALICE):
        answer = guarded.http.get("/queue", headers=key(secret, "203.0.113.1"))
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_failures")
        assert 1 <= int(answer.headers["retry-after"]) <= REFILL_S
    assert guarded.http.get("/queue", headers=key(ALICE, "203.0.113.2")).status_code == 200
    assert guarded.http.get("/queue", headers={"x-forwarded-for": "203.0.113.1"}).status_code == 401
    log = guarded.processes[0].log
    assert '"api_key_refused"' in log
    assert "tk_" not in log


def test_the_log_names_the_owner_of_a_request(guarded: Service) -> None:
    guarded.http.get("/queue", headers={**key(ALICE), "x-request-id": "whose"})
    lines = wait_until(
        lambda: [line for line in guarded.processes[0].log.splitlines() if '"whose"' in line], 5, "the line"
    )
    assert json.loads(lines[0])["owner"] == "alice"


def test_the_docs_know_how_a_key_is_sent(guarded: Service) -> None:
    spec = guarded.http.get("/openapi.json").json()
    assert set(spec["components"]["securitySchemes"]) == {"HTTPBearer", "APIKeyHeader"}
    assert spec["paths"]["/queue"]["get"]["security"] == [{"HTTPBearer": []}, {"APIKeyHeader": []}]
    assert "security" not in spec["paths"]["/health/live"]["get"]


def test_pages_of_allowed_origins_may_call(guarded: Service) -> None:
    asked = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, idempotency-key",
    }
    allowed = guarded.http.options("/transcribe", headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in allowed.headers
    answer = guarded.http.get("/queue", headers={**key(ALICE), "origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
    other = guarded.http.options("/transcribe", headers={**asked, "origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_no_origin_is_allowed_by_default(served: Service) -> None:
    answer = served.http.get("/health/live", headers={"origin": ORIGIN})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("origin", "status"), [(ORIGIN, 403), ("null", 403), ("http://127.0.0.1:{port}", 202), (None, 202)]
)
def test_without_keys_a_page_of_another_origin_is_refused(
    served: Service, origin: str | None, status: int
) -> None:
    """A browser sends the upload without asking first: only the answer would be kept from the page."""
    headers = {"origin": origin.format(port=served.port)} if origin else {}
    answer = served.http.post("/transcribe", files=FILES, headers=headers)
    assert answer.status_code == status
    assert status == 202 or answer.json()["code"] == "forbidden"


def test_with_keys_the_origin_does_not_matter(guarded: Service) -> None:
    headers = {**key(ALICE), "origin": "https://other.example"}
    assert guarded.http.get("/queue", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("allowed", "is_refused"), [([], True), (["https://b"], True), ([ORIGIN], False), (["*"], False)]
)
def test_without_keys_cors_origins_lets_pages_in(allowed: list[str], is_refused: bool) -> None:
    headers = Headers({"host": "127.0.0.1:8000", "origin": ORIGIN})
    if is_refused:
        with pytest.raises(Forbidden):
            refuse_foreign_page(headers, allowed)
    else:
        refuse_foreign_page(headers, allowed)


def start(service: Service, **settings: str) -> subprocess.CompletedProcess[str]:
    """A gateway that is expected to refuse to start."""
    return subprocess.run(
        [sys.executable, "-m", "gateway"],
        cwd=ROOT,
        env={**service.environment, "GATEWAY_PORT": str(free_port()), **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_without_keys_only_loopback_is_listened_on(served: Service) -> None:
    refused = start(served, GATEWAY_HOST="0.0.0.0")  # noqa: S104  what must be refused
    assert refused.returncode == 2
    assert refused.stderr == (
        "GATEWAY_HOST: without API_KEYS only loopback is listened on, not 0.0.0.0: "
        "set API_KEYS, or ALLOW_ANONYMOUS=true\n"
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"GATEWAY_HOST": "localhost"}, "api_is_open"),
        ({"GATEWAY_HOST": "0.0.0.0", "ALLOW_ANONYMOUS": "true"}, "api_is_open"),  # noqa: S104
        ({"GATEWAY_HOST": "0.0.0.0", "API_KEYS": CLIENT_KEYS}, "api_keys_loaded"),  # noqa: S104
    ],
)
def test_the_start_says_who_may(served: Service, settings: dict[str, str], said: str) -> None:
    process = served.start("who-may", "gateway", **{"GATEWAY_PORT": str(free_port()), **settings})
    served.wait(lambda: process.said("Application startup complete"), 20, "a gateway to be up")
    assert process.said(f'"{said}"')
    process.end()
    served.processes.remove(process)


def test_keys_that_can_not_be_read_end_the_start(served: Service) -> None:
    refused = start(served, API_KEYS="alice:not-a-hash")
    assert refused.returncode == 2
    assert refused.stderr.startswith("API_KEYS: entry 1 is not name:sha256 or name:sha256:operator")
    assert "not-a-hash" not in refused.stderr


def test_wrong_keys_that_come_at_once_are_all_counted(guarded: Service) -> None:
    codes: list[int] = []

    def try_one() -> None:
        codes.append(guarded.http.get("/queue", headers=key("tk_wrong", "198.51.100.9")).status_code)

    threads = [threading.Thread(target=try_one) for _ in range(2 * BURST)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes.count(401) in {BURST, BURST + 1}
    assert codes.count(429) in {BURST, BURST - 1}
