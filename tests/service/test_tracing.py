"""A job's trace, as a collector receives it from the service's processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import structlog

from ops.stack import free_port
from tests.service.test_spine import silence
from tests.support.otlp_collector import Collector, Sent
from tests.support.service import ROOT
from worker.jobs.keys import job_key
from worker.tracing import NO_SPAN, Steps, Tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.service import Service

TRACE_ID, CLIENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"traceparent": f"00-{TRACE_ID}-{CLIENT_SPAN}-01"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def traced(service: Service, collector: Collector) -> Service:
    service.settings |= {
        "ENGINE": "simulated",
        "SIMULATED_SCRIPT": json.dumps({"speed": 20}),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",  # ms
    }
    return service


def post(service: Service, headers: dict[str, str]) -> str:
    path = silence(service.folder / "private.wav", 4)
    with path.open("rb") as file:
        form = {"file": ("private.wav", file, "audio/wav")}
        answer = service.http.post("/transcribe", files=form, headers=headers)
    return str(answer.raise_for_status().json()["task_id"])


def wait_for(service: Service, collector: Collector, name: str, count: int = 1) -> list[Sent]:
    service.wait(
        lambda: len(collector.of(name)) >= count,
        20,
        f"{count} {name}, not {[s.name for s in collector.spans]}",
    )
    return collector.of(name)


def test_request_enqueue_attempt_and_steps_are_one_trace(traced: Service, collector: Collector) -> None:
    traced.start_all()
    task_id = post(traced, PARENT)
    traced.wait_for(task_id, "completed")
    (attempt,) = wait_for(traced, collector, "attempt")
    (request,) = wait_for(traced, collector, "POST /transcribe")
    (enqueue,) = wait_for(traced, collector, "enqueue")
    steps = [*wait_for(traced, collector, "step convert"), *wait_for(traced, collector, "step simulate")]

    everything = [request, enqueue, attempt, *steps]
    assert {span.trace_id for span in everything} == {TRACE_ID}
    above = {span.name: span.parent_id for span in everything}
    assert above == {
        "POST /transcribe": CLIENT_SPAN,
        "enqueue": request.span_id,
        "attempt": enqueue.span_id,
        "step convert": attempt.span_id,
        "step simulate": attempt.span_id,
    }
    assert [span.service for span in everything] == [
        *["transcription-gateway"] * 2,
        *["transcription-worker"] * 3,
    ]
    for span in (request, enqueue, attempt):
        assert span.attributes["transcription.task_id"] == task_id
    assert attempt.attributes["transcription.outcome"] == "completed"
    assert attempt.attributes["transcription.attempt"] == 1
    assert request.attributes["transcription.status"] == 202
    assert not any(span.error for span in everything)
    for step in steps:
        assert attempt.began_ns <= step.began_ns <= step.ended_ns <= attempt.ended_ns
    assert steps[0].ended_ns <= steps[1].began_ns
    # Polls are not traced, unless the client does; no name and no key leaves the service.
    assert not collector.of("GET /status/{task_id}")
    traced.http.get(f"/status/{task_id}", headers=PARENT)
    (poll,) = wait_for(traced, collector, "GET /status/{task_id}")
    assert poll.parent_id == CLIENT_SPAN
    assert not any(b"private" in body for body in collector.bodies)


def test_the_attempt_after_a_dead_one_is_of_the_same_trace(traced: Service, collector: Collector) -> None:
    script = {"speed": 20, "misbehave": "kill", "once": str(traced.folder / "killed")}
    traced.settings["SIMULATED_SCRIPT"] = json.dumps(script)
    traced.start_all()
    task_id = post(traced, {"traceparent": "00-not-a-parent-01"})
    traced.wait_for(task_id, "completed")
    (attempt,) = wait_for(traced, collector, "attempt")
    (request,) = wait_for(traced, collector, "POST /transcribe")
    assert attempt.attributes["transcription.attempt"] == 2
    assert attempt.trace_id == request.trace_id != TRACE_ID
    assert request.parent_id == ""


def test_a_failure_is_one_in_the_trace_and_the_last_spans_come_at_the_end(
    traced: Service, collector: Collector
) -> None:
    traced.settings |= {
        "SIMULATED_SCRIPT": json.dumps({"speed": 20, "misbehave": "raise"}),
        "OTEL_BSP_SCHEDULE_DELAY": "60000",
    }
    worker = traced.start_all()
    traced.wait_for(post(traced, PARENT), "failed")
    assert not collector.spans
    for process in reversed(traced.processes):
        process.end()
    (attempt,) = collector.of("attempt")
    (step,) = collector.of("step simulate")
    assert attempt.error == step.error == "engine_failed", worker.log
    assert collector.of("POST /transcribe")


def test_a_collector_that_is_away_delays_nothing(traced: Service) -> None:
    traced.settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    traced.start_all()
    for _ in range(2):
        traced.wait_for(post(traced, PARENT), "completed", 20)
    began = time.monotonic()
    for process in reversed(traced.processes):
        process.end()
    assert time.monotonic() - began < 15


def test_off_there_is_no_trace_and_no_exporter_is_loaded(service: Service) -> None:
    service.start_gateway()
    task_id = post(service, PARENT)
    with service.redis.client() as client:
        assert not client.hget(job_key(task_id), "traceparent")
    # Of the packages: redis-py loads the SDK's metrics by itself, where it is installed.
    program = "import sys, gateway.app, worker.running; print('opentelemetry.exporter' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "False"


def test_without_the_packages_it_says_so_once_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    tracing = Tracing("http://127.0.0.1:1", "s")
    with structlog.testing.capture_logs() as told:
        for _ in range(2):
            assert tracing.begin("attempt") is NO_SPAN
        steps = Steps(tracing)
        steps.enter("convert")
        steps.leave()
        tracing.close()
    assert [(line["event"], line["missing"]) for line in told] == [
        ("tracing_unavailable", "opentelemetry.sdk.trace")
    ]
