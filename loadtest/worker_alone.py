"""What one worker bears where its engine costs nothing: jobs a second, and what an hour of sound costs."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from loadtest.ends import list_jobs, seconds, wait_for_quiet
from loadtest.processor_use import ProcessorUse
from loadtest.recordings import silence

if TYPE_CHECKING:
    from loadtest.stand import Stand

SPEED = 1e9  # times real time: nothing is left of the engine
SHORT_S, SHORT_JOBS = 10, 150
LONG_S, LONG_JOBS = 3600, 3
WAV = {"Content-Type": "audio/wav"}


@dataclass(frozen=True)
class Alone:
    """``long_s`` is for LONG_S of sound, fetching, converting and writing included."""

    jobs_per_s: float
    cores: float
    long_s: float


def measure(stand: Stand) -> Alone:
    """One round, on a quiet service with one worker. Raises RuntimeError where a job does not complete."""
    headers = {"Authorization": f"Bearer {stand.client_key}"}
    with httpx.Client(base_url=stand.stack.api_url, headers=headers, timeout=60) as http:
        with ProcessorUse(stand.pids()) as use:
            per_s = rate(run_all(http, silence(SHORT_S), SHORT_JOBS))
        long_ones = run_all(http, silence(LONG_S), LONG_JOBS)
    taken = [seconds(job["started_at"], job["ended_at"]) for job in long_ones]
    return Alone(per_s, use.cores()["workers"], statistics.median(taken))


def run_all(http: httpx.Client, recording: bytes, count: int) -> list[dict[str, str]]:
    """Submit so many, wait for their ends; these jobs, as they ended."""
    ids = {submit(http, recording) for _ in range(count)}
    wait_for_quiet(http)
    jobs = [job for job in list_jobs(http) if job["task_id"] in ids]
    if sum(job["status"] == "completed" for job in jobs) < count:
        raise RuntimeError("not every job has completed")
    return sorted(jobs, key=lambda job: job["ended_at"])


def submit(http: httpx.Client, recording: bytes) -> str:
    answer = http.post("/transcribe", content=recording, headers=WAV).raise_for_status()
    return str(answer.json()["task_id"])


def rate(jobs: list[dict[str, str]]) -> float:
    """Jobs a second, of those that ended when all had been sent: the gateway takes no time from them."""
    sent_at = max(job["created_at"] for job in jobs)
    after = [job["ended_at"] for job in jobs if job["ended_at"] > sent_at]
    return (len(after) - 1) / seconds(after[0], after[-1])
