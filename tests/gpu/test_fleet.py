"""What an operator sees of a pool in every state: GET /gpus, /health/ready, the table, the metrics."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from ops.stack import free_port
from tests.gpu.conftest import engine_script
from tests.gpu.stub import LOST, Gpu, StubMachine
from tests.support.service import ROOT

if TYPE_CHECKING:
    from tests.support.service import Process, Service

HOST = socket.gethostname()
COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")


def gpus(service: Service) -> tuple[int, dict[str, Any]]:
    """The answer of GET /gpus, which has the form that the API's description gives it."""
    answer = service.http.get("/gpus")
    spec = service.http.get("/openapi.json").json()
    schema = {"$ref": "#/components/schemas/Fleet", "components": spec["components"]}
    Draft202012Validator(schema).validate(answer.json())
    return answer.status_code, answer.json()


def wait_for_verdict(service: Service, status: int, colour: str, reason: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        got, fleet = gpus(service)
        verdict = fleet["verdict"]
        return fleet if (got, verdict["colour"]) == (status, colour) and reason in verdict["reason"] else None

    return dict(service.wait(found, 40, f"{status} {colour} ({reason}) instead of {gpus(service)}"))


def started(service: Service, count: int) -> Process:
    service.start_gateway()
    pool = service.start("pool", "worker")
    service.wait(lambda: pool.log.count('"worker_ready"') >= count, 60, f"{count} workers")
    return pool


def one_of(fleet: dict[str, Any], worker: str) -> dict[str, Any]:
    return dict(next(one for one in fleet["workers"] if one["report"]["worker"] == worker))


def test_the_verdict_follows_the_devices(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a"), Gpu("GPU-b"))
    pool = started(service, 2)
    wait_for_verdict(service, 200, "green", "2 green")
    assert "2 alive; 2 green" in service.http.get("/health/ready").text

    machine.change(0, temperature=95)
    fleet = wait_for_verdict(service, 200, "amber", "1 green, 1 amber")
    assert "95 °C" in one_of(fleet, f"gpu0@{HOST}")["verdict"]["reason"]

    machine.change(0, fault=LOST, temperature=40)
    fleet = wait_for_verdict(service, 200, "amber", "1 green, 1 red")
    machine.change(1, fault=LOST)
    wait_for_verdict(service, 503, "red", "no worker can work")
    service.wait(lambda: service.http.get("/health/ready").status_code == 503, 20, "not ready")

    machine.change(0, fault=0)
    machine.change(1, fault=0)
    wait_for_verdict(service, 200, "green", "2 green")
    pool.kill()
    fleet = wait_for_verdict(service, 503, "red", "no worker can work: 2 red")
    assert one_of(fleet, f"gpu0@{HOST}")["verdict"]["reason"].startswith("lost: silent for ")


def test_a_machine_of_eight_and_one_of_none(service: Service, machine: StubMachine) -> None:
    service.start_gateway()
    status, fleet = gpus(service)
    assert (status, fleet["verdict"]["reason"]) == (503, "no worker has reported")
    machine.set(*(Gpu(f"GPU-{number}", used_mib=20_000) for number in range(8)))
    service.settings["JOBS_PER_GPU"] = "1"
    pool = service.start("pool", "worker")
    fleet = wait_for_verdict(service, 200, "amber", "8 amber")
    assert {one["report"]["state"] for one in fleet["workers"]} == {"refusing"}
    assert pool.end(60) == 0
    machine.set()
    service.start("cpu", "worker")
    fleet = wait_for_verdict(service, 200, "amber", "1 amber")
    assert fleet["workers"][0]["report"]["device"] is None


def test_the_job_at_work_is_shown_with_its_speed(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a"))
    service.settings["SIMULATED_SCRIPT"] = engine_script(machine, speed=4)
    started(service, 1)
    task_id = service.submit()

    def at_work() -> dict[str, Any] | None:
        report = gpus(service)[1]["workers"][0]["report"]
        return report if report["job"] and report["job"]["speed_x"] else None

    report = service.wait(at_work, 20, "a job with a speed")
    assert (report["job"]["task_id"], report["job"]["step"]) == (task_id, "simulate")
    assert report["job"]["speed_x"] == pytest.approx(4, rel=0.3)
    assert (report["state"], report["model_loaded"]) == ("busy", True)
    assert report["device"]["ours_bytes"] == 8000 * 1024**2
    assert (report["device"]["driver_version"], report["device"]["cuda_version"]) == ("570.86.15", "12.8")
    service.wait_for(task_id, "completed")
    service.wait(lambda: gpus(service)[1]["workers"][0]["report"]["jobs_done"] == 1, 10, "the job to count")


class Terminal:
    """`python -m ops gpus` on a terminal of so many columns, until it ends."""

    def __init__(self, service: Service, *arguments: str, columns: int = 150) -> None:
        self._ours, its = pty.openpty()
        environment = {**service.environment, "COLUMNS": str(columns), "TERM": "xterm-256color"}
        argv = [sys.executable, "-m", "ops", "gpus", *arguments]
        self.popen = subprocess.Popen(argv, cwd=ROOT, env=environment, stdin=its, stdout=its, stderr=its)
        os.close(its)
        self.shown = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def end(self, timeout_s: float = 20) -> int:
        """Its exit status, once all that it wrote is in ``shown``."""
        try:
            return self.popen.wait(timeout_s)
        finally:
            self.popen.kill()
            self.popen.wait()
            self._reader.join()
            os.close(self._ours)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the terminal's end, on Linux
            while part := os.read(self._ours, 65_536):
                self.shown += part.decode(errors="replace")


def table_on_a_terminal(service: Service, columns: int = 150) -> tuple[int, str]:
    """What `python -m ops gpus --once` puts on a terminal, and its exit status."""
    terminal = Terminal(service, "--once", columns=columns)
    return terminal.end(), terminal.shown


def test_the_table_on_a_terminal(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a", name="Stub A"), Gpu("GPU-b", name="Stub B", used_mib=20_000))
    pool = started(service, 2)
    wait_for_verdict(service, 200, "amber", "1 green, 1 amber")
    status, shown = table_on_a_terminal(service)
    assert status == 0
    assert "\x1b[32m" in shown  # green
    plain = COLOUR_CODES.sub("", shown)
    first, second = (line for line in plain.splitlines() if f"@{HOST}" in line)
    assert "0 Stub A" in first
    assert "8.3 of 23.4 (7.8 ours)" in first
    assert "simulated" in first
    assert "not loaded" in plain
    assert "1 Stub B" in second
    assert "amber" in second
    assert plain.startswith("amber: 1 green, 1 amber")  # where no short terminal cuts it off
    narrow = COLOUR_CODES.sub("", table_on_a_terminal(service, columns=80)[1]).split("\r\n")
    assert narrow[1:4] == [
        f"gpu0@{HOST} green the model is loaded",
        "  0 Stub A, 8.3 of 23.4 GiB (7.8 ours), 3 %, 41 °C, 65 W",
        "  simulated, 0 done",
    ]
    assert "amber refusing: 4000 MiB are free" in narrow[4]
    pool.kill()
    wait_for_verdict(service, 503, "red", "2 red")
    assert table_on_a_terminal(service)[0] == 1


def test_the_live_table_outlives_an_outage(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a"))
    started(service, 1)
    wait_for_verdict(service, 200, "green", "1 green")
    live = Terminal(service)
    try:
        service.wait(lambda: "green: 1 green" in live.shown, 20, "the table")
        service.redis.stop()
        service.wait(lambda: "Redis does not answer" in live.shown, 20, "the table to say so")
        service.redis.start()
        shown = live.shown.count("green: 1 green")
        service.wait(lambda: live.shown.count("green: 1 green") > shown, 30, "the table to come back")
    finally:
        live.popen.send_signal(signal.SIGINT)
        assert live.end() == 0


def test_a_lost_worker_is_forgotten_on_demand(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a"))
    pool = started(service, 1)
    service.wait(lambda: gpus(service)[1]["workers"], 10, "the worker's first report")
    pool.kill()
    argv = ("ops", "gpus", "--forget", f"gpu0@{HOST}")
    assert service.start("forget", *argv).popen.wait(20) == 0
    assert service.start("again", *argv).popen.wait(20) == 1
    assert gpus(service)[1]["workers"] == []


def scrape(port: int) -> dict[str, list[Any]]:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return {family.name: family.samples for family in text_string_to_metric_families(text)}


def test_the_exporter_tells_of_devices_queue_and_jobs(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a", temperature=55))
    started(service, 1)
    for task_id in [service.submit() for _ in range(3)]:
        service.wait_for(task_id, "completed")
    port = free_port()
    exporter = service.start("metrics", "ops", "metrics", METRICS_PORT=str(port))
    service.wait(lambda: exporter.said('"metrics_listening"'), 20, "the exporter")
    wait_for_verdict(service, 200, "green", "1 green")
    found = scrape(port)
    (heat,) = found["transcription_gpu_temperature_celsius"]
    assert (heat.value, heat.labels["worker"], heat.labels["uuid"]) == (55, f"gpu0@{HOST}", "GPU-a")
    assert found["transcription_up"][0].value == 1
    assert found["transcription_verdict"][0].value == 0
    (ended,) = found["transcription_jobs_ended"]
    labels = {"engine": "simulated", "device": "gpu0"}
    assert (ended.value, ended.labels) == (3, {**labels, "outcome": "completed"})
    for name in ("job_wait_seconds", "job_run_seconds", "job_speed_ratio"):
        samples = {(one.name, one.labels.get("le")): one for one in found[f"transcription_{name}"]}
        count = samples[f"transcription_{name}_count", None]
        assert (count.value, count.labels) == (3, labels)
        assert samples[f"transcription_{name}_bucket", "+Inf"].value == 3
        assert samples[f"transcription_{name}_sum", None].value > 0

    service.redis.stop()
    assert [one.value for one in scrape(port)["transcription_up"]] == [0]
    service.redis.start()
    service.wait(lambda: scrape(port)["transcription_up"][0].value == 1, 20, "the exporter to recover")
