"""What the gateways count, as the exporter tells it: real gateways, several on one server."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gateway.traffic import GATEWAYS_KEY, TRAFFIC_KEY, Tally, read_gateways, status_class
from ops.metrics import Collector
from ops.stack import free_port
from tests.gateway.jobs import started, wav
from worker.jobs import JobStore
from worker.streams import GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

    from tests.support.service import Service

Labels = tuple[tuple[str, str], ...]
Figures = dict[tuple[str, Labels], float]
FLUSH_S = 15.0


def figures(client: redis.Redis) -> Figures:
    """Every sample of the exporter, by its name without prefix and its labels."""
    collector = Collector(client, JobStore(client, group=GROUP, expiry_s=3600))
    samples = [sample for family in collector.collect() for sample in family.samples]
    return {
        (one.name.removeprefix("transcription_"), tuple(sorted(one.labels.items()))): one.value
        for one in samples
    }


def one(found: Figures, name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Service]:
    """A gateway of its own: its counts must be nobody else's."""
    service = started(tmp_path, MAX_UPLOAD_BYTES="100000")
    yield service
    service.end()


def wait_for(service: Service, client: redis.Redis, wanted: Callable[[Figures], Any], what: str) -> Figures:
    found: Figures = {}

    def is_there() -> bool:
        found.clear()
        found.update(figures(client))
        return bool(wanted(found))

    service.wait(is_there, FLUSH_S, what)
    return found


def test_the_counts_are_of_all_gateways_and_outlive_them(alone: Service) -> None:
    port = free_port()
    second = alone.start("gateway-2", "gateway", GATEWAY_PORT=str(port))
    alone.wait(lambda: second.said('"gateway_listening"'), 20, "the second gateway")
    recording = {"file": ("a.wav", wav(1000), "audio/wav")}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as other:
        task_ids = [
            http.post("/transcribe", files=recording).raise_for_status().json()["task_id"]
            for http in (alone.http, other, other)
        ]
        for http in (alone.http, other):
            assert http.get(f"/status/{task_ids[0]}").status_code == 200
            assert http.get("/status/11111111-1111-4111-8111-111111111111").status_code == 404
        empty = {"file": ("a.wav", b"", "audio/wav")}
        assert other.post("/transcribe", files=empty).status_code == 400
    with alone.redis.client() as client:
        found = wait_for(
            alone,
            client,
            lambda found: (
                one(found, "gateway_requests_total", method="POST", route="/transcribe", status="2xx") == 3
                and one(found, "gateway_refused_total", code="not_found") == 2
                and one(found, "gateway_refused_total", code="empty_recording") == 1
            ),
            "both gateways' counts",
        )
        status = {"method": "GET", "route": "/status/{task_id}"}
        assert one(found, "gateway_requests_total", **status, status="2xx") == 2
        assert one(found, "gateway_requests_total", **status, status="4xx") == 2
        assert one(found, "gateway_request_seconds_count", **status) == 4
        assert one(found, "gateway_request_seconds_bucket", **status, le="+Inf") == 4
        assert one(found, "gateway_request_seconds_sum", **status) > 0
        assert one(found, "gateway_body_bytes_total") > 3000
        assert one(found, "gateways") == 2
        # What it had not told yet is told at its end.
        assert alone.http.get(f"/status/{task_ids[1]}").status_code == 200
        for process in list(alone.processes):
            if process.name.startswith("gateway"):
                process.end()
        assert one(figures(client), "gateway_requests_total", **status, status="2xx") == 3


def test_nothing_that_a_client_sends_becomes_a_label(alone: Service) -> None:
    with alone.redis.client() as client:
        for number in range(60):
            alone.http.get(f"/no/such/path-{number}", headers={"X-Request-ID": f"id-{number}"})
            alone.http.request(("PROPFIND", "MKCOL", "LOCK")[number % 3], "/jobs")
            alone.http.get(f"/status/{number}")
            alone.http.get("/jobs", params={"limit": f"x{number}"})
        wait_for(
            alone,
            client,
            lambda found: (
                one(found, "gateway_requests_total", method="GET", route="unmatched", status="4xx") == 60
                and one(found, "gateway_requests_total", method="GET", route="/jobs", status="4xx") == 60
            ),
            "the counts",
        )
        names = client.hkeys(TRAFFIC_KEY)
        assert len(names) < 60
        assert not [name for name in names if "path-" in name or "PROPFIND" in name or "|x" in name]


def test_what_could_not_be_told_is_told_later(alone: Service) -> None:
    alone.redis.stop()
    for _ in range(3):
        assert alone.http.get("/jobs").status_code == 503
    gateway = next(process for process in alone.processes if process.name == "gateway")
    alone.wait(lambda: gateway.said('"traffic_not_reported"'), FLUSH_S, "a report to fail")
    alone.redis.start()
    with alone.redis.client() as client:
        wait_for(
            alone,
            client,
            lambda found: one(found, "gateway_refused_total", code="broker_away") == 3,
            "the refusals of the outage",
        )


def test_a_request_under_way_is_open(alone: Service) -> None:
    go_on = threading.Event()

    def body() -> Iterator[bytes]:
        yield wav(44)
        go_on.wait(30)
        yield bytes(10)

    sender = threading.Thread(
        target=alone.http.post,
        args=["/transcribe"],
        kwargs={"content": body(), "headers": {"Content-Type": "audio/wav"}},
    )
    with alone.redis.client() as client:
        sender.start()
        wait_for(alone, client, lambda found: one(found, "gateway_requests_open") == 1, "an open request")
        go_on.set()
        sender.join(20)
        wait_for(alone, client, lambda found: one(found, "gateway_requests_open") == 0, "none to be open")
        client.hset(GATEWAYS_KEY, "gone:1", "7|1.0")  # a gateway that was killed long ago
        assert one(figures(client), "gateway_requests_open") == 0
        alone.wait(lambda: "gone:1" not in read_gateways(client), FLUSH_S, "the dead gateway to be dropped")


def test_counts_that_come_back_are_added_to_newer_ones() -> None:
    tally = Tally()
    for seconds in (0.2, 700.0):
        tally.begin()
        tally.end("GET", "/jobs", 200, None, seconds)
    taken = tally.take()
    assert taken["seconds|GET|/jobs|+Inf"] == 1
    assert tally.take() == {}
    tally.begin()
    tally.end("GET", "/jobs", 0, "internal", 0.3)
    tally.give_back(taken)
    merged = tally.take()
    assert merged["requests|GET|/jobs|2xx"] == 2
    assert merged["requests|GET|/jobs|none"] == 1
    assert merged["seconds|GET|/jobs|sum"] == pytest.approx(700.5)
    assert tally.open == 0


def test_a_status_is_counted_by_its_class() -> None:
    assert [status_class(status) for status in (200, 206, 404, 503, 0)] == [
        "2xx",
        "2xx",
        "4xx",
        "5xx",
        "none",
    ]


def test_the_process_is_named_by_machine_and_number(alone: Service) -> None:
    with alone.redis.client() as client:
        alone.wait(lambda: read_gateways(client), FLUSH_S, "a gateway to tell of itself")
        (name,) = read_gateways(client)
        assert name == f"{os.uname().nodename}:{alone.processes[0].pid}"
