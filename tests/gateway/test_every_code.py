"""Every code of docs/errors.md can be provoked: here over HTTP, or by the test that is named here."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from gateway.error_table import kinds
from gateway.failures import BURST
from tests.gateway.callers import ALICE, CLIENT_KEYS, key
from tests.gateway.jobs import MIB, Jobs, started, wav
from tests.gateway.raw import PART_HEAD, connect, post_head
from tests.support.service import ROOT, Service
from tests.support.waiting import wait_until
from worker.jobs import MoveOutcome, new_task_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    Provoke = Callable[[Service, Jobs], httpx.Response]

ELSEWHERE = {
    "internal": "tests/gateway/test_submit_outage.py::test_a_crash_is_a_problem_without_its_text",
    "upload_stalled": "tests/gateway/test_submit_outage.py::test_a_client_that_stalls_is_sent_away",
    "broker_away": "tests/gateway/test_submit_outage.py::test_a_frozen_redis",
    "cancelled": "tests/service/test_faults.py::test_a_waiting_job_that_is_cancelled_never_runs",
    "engine_failed": "tests/service/test_options.py::"
    "test_a_language_that_the_model_does_not_know_is_the_jobs_clear_error",
    "engine_unavailable": "tests/service/test_job_ends.py::test_a_job_ends_with_the_code_of_what_went_wrong",
    "gpu_fault": "tests/worker/test_readiness.py::test_a_failing_gpu_is_told_from_a_failing_engine",
    "input_missing": "tests/service/test_job_ends.py::test_a_recording_that_is_lost_is_told",
    "interrupted": "tests/service/test_job_ends.py::test_a_job_ends_with_the_code_of_what_went_wrong",
    "not_audio": "tests/service/test_any_recording.py::test_every_kind_ends_in_a_transcript_or_a_clear_error",
    "out_of_gpu_memory": "tests/service/test_job_ends.py::test_a_job_ends_with_the_code_of_what_went_wrong",
    "source_incomplete": "tests/service/test_url_jobs.py::"
    "test_servers_that_give_no_recording_end_in_clear_errors",
    "source_refused": "tests/service/test_url_jobs.py::"
    "test_servers_that_give_no_recording_end_in_clear_errors",
    "source_too_large": "tests/service/test_url_jobs.py::"
    "test_servers_that_give_no_recording_end_in_clear_errors",
    "source_unavailable": "tests/service/test_url_jobs.py::"
    "test_servers_that_give_no_recording_end_in_clear_errors",
    "time_limit": "tests/service/test_options.py::"
    "test_an_engine_that_takes_too_long_is_stopped_and_the_next_job_runs",
    "too_long": "tests/service/test_any_recording.py::test_every_kind_ends_in_a_transcript_or_a_clear_error",
    "url_forbidden": "tests/service/test_url_jobs.py::"
    "test_servers_that_give_no_recording_end_in_clear_errors",
    "worker_lost": "tests/service/test_faults.py::test_a_job_that_kills_every_worker_ends_as_a_dead_letter",
}


def post(service: Service, content: bytes = wav(), headers: dict[str, str] | None = None) -> httpx.Response:
    return service.http.post("/transcribe", files={"file": ("a.wav", content)}, headers=headers)


def with_form(name: str, value: str) -> Provoke:
    return lambda service, _: service.http.post(
        "/transcribe", data={name: value}, files={"file": ("a.wav", wav())}
    )


def as_body(content_type: str, content: bytes) -> Provoke:
    headers = {"content-type": content_type}
    return lambda service, _: service.http.post("/transcribe", headers=headers, content=content)


def reused(service: Service, _jobs: Jobs) -> httpx.Response:
    post(service, headers={"idempotency-key": "k"})
    return post(service, wav(100), {"idempotency-key": "k"})


def in_flight(service: Service, jobs: Jobs) -> httpx.Response:
    with connect(service) as connection:
        connection.sendall(post_head("Content-Length: 1000", "Idempotency-Key: k") + PART_HEAD + wav())
        wait_until(lambda: [*jobs.client.scan_iter("once:*:lease")], 5, "the first request to hold the key")
        return post(service, headers={"idempotency-key": "k"})


def gone(service: Service, jobs: Jobs) -> httpx.Response:
    task_id = jobs.complete()
    service.http.delete(f"/release/{task_id}")
    return service.http.get(f"/status/{task_id}")


def delivered(service: Service, jobs: Jobs) -> httpx.Response:
    task_id = jobs.run(s3_path="x")
    fields = {"result": "", "s3_urls": ["s3://b/anonymous/x.json"]}
    assert (
        jobs.store.complete(task_id, jobs.lease(task_id), now=time.time(), fields=fields) is MoveOutcome.MOVED
    )
    return service.http.get(f"/download/{task_id}")


def missing(service: Service, jobs: Jobs) -> httpx.Response:
    task_id = jobs.complete()
    jobs.folder(task_id).remove()
    return service.http.get(f"/download/{task_id}")


OPEN: dict[str, Provoke] = {
    "already_ended": lambda service, jobs: service.http.post(f"/cancel/{jobs.fail()}"),
    "bad_request": as_body("application/json", b"rubbish"),
    "empty_recording": as_body("audio/wav", b""),
    "forbidden": lambda service, _: service.http.get("/queue", headers={"origin": "http://evil.example"}),
    "gone": gone,
    "idempotency_key_reused": reused,
    "invalid_request": with_form("nonsense", "1"),
    "job_failed": lambda service, jobs: service.http.get(f"/download/{jobs.fail()}"),
    "method_not_allowed": lambda service, _: service.http.put("/queue"),
    "not_finished": lambda service, jobs: service.http.get(f"/download/{jobs.wait()}"),
    "not_found": lambda service, _: service.http.get(f"/status/{new_task_id()}"),
    "range_not_satisfiable": lambda service, jobs: service.http.get(
        f"/download/{jobs.complete()}", headers={"range": "bytes=99999-"}
    ),
    "request_in_flight": in_flight,
    "result_missing": missing,
    "s3_delivered": delivered,
    "s3_not_configured": with_form("s3_path", "x"),
    "unsupported_body": as_body("text/plain", b"words"),
    "webhook_not_configured": with_form("webhook_url", "https://example.org/hook"),
}


def too_many_failures(service: Service) -> httpx.Response:
    headers = key("tk_wrong", "203.0.113.7")
    return [service.http.get("/queue", headers=headers) for _ in range(BURST + 1)][-1]


def submitted_twice(service: Service) -> httpx.Response:
    return [post(service, headers=key(ALICE)) for _ in range(2)][-1]


LIMITED: dict[str, tuple[dict[str, str], Callable[[Service], httpx.Response]]] = {
    "unauthorized": ({"API_KEYS": CLIENT_KEYS}, lambda service: service.http.get("/queue")),
    "too_many_failures": ({"API_KEYS": CLIENT_KEYS}, too_many_failures),
    "too_many_waiting": ({"API_KEYS": CLIENT_KEYS, "MAX_WAITING_PER_KEY": "1"}, submitted_twice),
    "too_much_stored": ({"API_KEYS": CLIENT_KEYS, "MAX_STORED_BYTES_PER_KEY": "60"}, submitted_twice),
    "queue_full": ({"MAX_WAITING_JOBS": "1"}, submitted_twice),
    "too_large": ({"MAX_UPLOAD_BYTES": "1000"}, lambda service: post(service, wav(MIB))),
    "disk_full": ({"MIN_FREE_BYTES": str(2**62)}, post),
}


@pytest.fixture
def narrow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = started(tmp_path_factory.mktemp("narrow"), **LIMITED[request.param][0])
    yield service
    service.end()


@pytest.mark.parametrize("code", OPEN)
def test_a_code_answers_what_it_is_for(code: str, served: Service, jobs: Jobs) -> None:
    assert_is(OPEN[code](served, jobs), code)


@pytest.mark.parametrize(("narrow", "code"), [(code, code) for code in LIMITED], indirect=["narrow"])
def test_a_code_answers_at_its_limit(narrow: Service, code: str) -> None:
    assert_is(LIMITED[code][1](narrow), code)


def assert_is(answer: httpx.Response, code: str) -> None:
    (kind,) = (kind for kind in kinds() if kind.code == code)
    assert (answer.status_code, answer.json()["code"]) == (kind.http_status, code)


def test_every_code_is_provoked_somewhere() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert listed == {*OPEN, *LIMITED, *ELSEWHERE}
    for code, place in ELSEWHERE.items():
        path, _, name = place.partition("::")
        text = (ROOT / path).read_text()
        assert f"def {name}(" in text, place
        (kind,) = (kind for kind in kinds() if kind.code == code)
        assert f'"{code}"' in text or kind.__name__ in text, place
