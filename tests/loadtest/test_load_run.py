"""`make loadtest`, short: a real stack, Locust's users on it, and the exit status.

Locust runs in processes of its own: it patches the standard library for gevent.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from gateway.keys import Role, line_of, new_secret
from loadtest.ends import judge, list_jobs
from tests.support.service import ROOT, Service

if TYPE_CHECKING:
    from pathlib import Path

SHORT = ["--users", "22", "--seconds", "3", "--think", "0.2", "--workers", "2"]


# What an operator may have set for his own service: the run has keys and addresses of its own.
OPERATORS = {
    "API_KEYS": line_of("alice", new_secret(), Role.CLIENT),
    "GATEWAY_HOST": "192.0.2.1",
    "REDIS_URL": "redis://192.0.2.1:6379/0",
    "ENGINE": "whisper",
}


def load(folder: Path, *more: str, **settings: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "loadtest.load", *SHORT, "--folder", str(folder), *more]
    environment = {**os.environ, **settings}
    return subprocess.run(
        argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=150
    )


def test_a_load_within_the_limits_ends_well_and_leaves_its_figures(tmp_path: Path) -> None:
    done = load(tmp_path, **OPERATORS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "**lost 0**" in done.stdout
    outcome = json.loads((tmp_path / "round-1/outcome.json").read_text())
    asked = {one["name"] for one in outcome["endpoints"]}
    assert {"POST /transcribe (short file)", "GET /status", "GET /events", "GET /download"} <= asked
    assert outcome["accepted"]
    assert "<html" in (tmp_path / "round-1/load.html").read_text().lower()
    with (tmp_path / "round-1/load_stats.csv").open() as file:
        assert {row["Name"] for row in csv.DictReader(file)} >= {"/status", "/events", "Aggregated"}
    assert "worker_ready" in (tmp_path / "round-1/stack/log/worker-2.log").read_text()


def test_a_broken_limit_fails_the_run(tmp_path: Path) -> None:
    done = load(tmp_path, "--p95-ms", "0")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "LIMIT BROKEN GET /status: p95 " in done.stdout


def test_the_steps_end_with_a_knee(tmp_path: Path) -> None:
    steps = ["--steps", "--step-users", "10", "--step-seconds", "2", "--most-steps", "2"]
    done = load(tmp_path, *steps)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nKnee: " in done.stdout
    assert [one["users"] for one in json.loads((tmp_path / "steps/outcome.json").read_text())["steps"]] == [
        10,
        20,
    ]


def test_a_lost_job_is_found(tmp_path: Path) -> None:
    service = Service(tmp_path)
    try:
        service.start_gateway()
        accepted = [service.submit() for _ in range(2)]
        with service.redis.client() as client:
            client.delete(f"job:{accepted[0]}")
        findings = judge(accepted, {}, list_jobs(service.http), {}).findings
    finally:
        service.end()
    assert findings == [f"{accepted[0]}: accepted, but lost", f"{accepted[1]}: has not ended: pending"]


def test_the_rules_load_no_gevent() -> None:
    """Its patches must not reach what else imports them."""
    code = (
        "import sys, loadtest.load, loadtest.limits, loadtest.knee, loadtest.capacity;"
        "sys.exit('gevent' in sys.modules or 'locust' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
