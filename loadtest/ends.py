"""Whether every accepted job has its one end: looked up over HTTP and in the cache when all is quiet."""

from __future__ import annotations

import collections
import statistics
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

POLL_S = 0.2
PATIENCE_S = 60.0  # without one job fewer in the queue
MOST_FAILED = 0.005  # of the jobs


@dataclass(frozen=True)
class Ends:
    """``findings`` has a line for each thing that must not be."""

    accepted: int
    lost: int
    completed: int
    failed: dict[str, int]
    wait_p95_s: float
    findings: list[str]


def wait_for_quiet(http: httpx.Client) -> None:
    """Return when no job waits or runs, or when none has ended for PATIENCE_S: then the judge finds those."""
    left, moved_at = -1, time.monotonic()
    while time.monotonic() - moved_at < PATIENCE_S:
        queue = http.get("/queue").raise_for_status().json()
        now_left = queue["waiting"] + queue["processing"]
        if not now_left:
            return
        if now_left != left:
            left, moved_at = now_left, time.monotonic()
        time.sleep(POLL_S)


def list_jobs(http: httpx.Client) -> list[dict[str, Any]]:
    """All jobs of this client's key, as GET /jobs tells them."""
    jobs: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = {"limit": 200, **({"cursor": cursor} if cursor else {})}
        page = http.get("/jobs", params=query).raise_for_status().json()
        jobs += page["jobs"]
        cursor = page["next_cursor"]
        if not cursor:
            return jobs


def results_of(http: httpx.Client, cache: Path, jobs: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many results each completed job has: its files, or 0 where they can't be downloaded as one."""
    found = {}
    for job in jobs:
        if job["status"] == "completed":
            task_id = job["task_id"]
            answer = http.get(f"/download/{task_id}", params={"fmt": "json"})
            is_its_own = answer.status_code == httpx.codes.OK and answer.json()["task_id"] == task_id
            found[task_id] = len(list((cache / "jobs" / task_id).iterdir())) if is_its_own else 0
    return found


def judge(
    accepted: Sequence[str],
    told: Mapping[str, str],
    jobs: Sequence[Mapping[str, Any]],
    results: Mapping[str, int],
) -> Ends:
    """``told`` is how users saw jobs end; ``jobs`` and ``results`` are what there is now."""
    now = {job["task_id"]: job for job in jobs}
    lost = [task_id for task_id in accepted if task_id not in now]
    ended = collections.Counter(job["status"] for job in jobs)
    failed = collections.Counter((job["error"] or {}).get("code", "") for job in jobs if is_failed(job))
    findings = [
        *(f"{task_id}: accepted, but lost" for task_id in lost),
        *(finding for job in jobs for finding in findings_of(job, told, results)),
    ]
    if sum(failed.values()) > MOST_FAILED * len(jobs):
        findings.append(f"{sum(failed.values())} of {len(jobs)} jobs failed: {dict(failed)}")
    if not accepted:
        findings.append("no job was accepted")
    waits = [seconds(job["created_at"], job["started_at"]) for job in jobs if job["started_at"]]
    wait_p95_s = statistics.quantiles(waits, n=20)[18] if len(waits) > 1 else 0.0
    return Ends(len(accepted), len(lost), ended["completed"], dict(failed), wait_p95_s, findings)


def findings_of(job: Mapping[str, Any], told: Mapping[str, str], results: Mapping[str, int]) -> list[str]:
    task_id, status = job["task_id"], job["status"]
    findings = []
    if status == "completed" and results.get(task_id) != 1:
        findings.append(f"{task_id}: completed, with {results.get(task_id)} results")
    if is_failed(job) and not (job["error"] or {}).get("code"):
        findings.append(f"{task_id}: failed without an error")
    if status not in {"completed", "failed"}:
        findings.append(f"{task_id}: has not ended: {status}")
    if told.get(task_id, status) != status:
        findings.append(f"{task_id}: was told {told[task_id]}, is now {status}")
    return findings


def is_failed(job: Mapping[str, Any]) -> bool:
    return bool(job["status"] == "failed")


def seconds(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
