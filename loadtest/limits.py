"""When a load run has failed: pure rules over its figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WAIT_S = 5  # of the long polls

# 95 of 100 answers come within so many milliseconds: half a second where a user waits, more where an operator
# looks or a body of 30 MB is sent. A stream's answer is its first event.
P95_MS = {
    "POST /transcribe (short file)": 500.0,
    "POST /transcribe (long file)": 5_000.0,
    "POST /transcribe (URL)": 500.0,
    "GET /status": 500.0,
    f"GET /status?wait_s={WAIT_S}": WAIT_S * 1000 + 500.0,
    "GET /events": 500.0,
    "GET /download": 500.0,
    "GET /queue": 1_000.0,
    "GET /jobs": 1_000.0,
    "GET /usage": 1_000.0,
    "GET /gpus": 1_000.0,
    "GET /health/ready": 1_000.0,
}
MOST_FAILED = 0.005  # of all requests


@dataclass(frozen=True)
class Endpoint:
    """What a run measured of one endpoint; its name is a key of P95_MS."""

    name: str
    requests: int
    failures: int
    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def broken_limits(
    endpoints: Sequence[Endpoint], p95_ms: Mapping[str, float], most_failed: float = MOST_FAILED
) -> list[str]:
    """A line for each limit that does not hold; a run without requests holds none."""
    requests = sum(one.requests for one in endpoints)
    if not requests:
        return ["no request was made"]
    failures = sum(one.failures for one in endpoints)
    broken = [
        f"{one.name}: p95 {one.p95_ms:.0f} ms, limit {p95_ms[one.name]:.0f} ms"
        for one in endpoints
        if one.p95_ms > p95_ms[one.name]
    ]
    if failures > most_failed * requests:
        broken.append(f"{failures} of {requests} requests failed, limit {most_failed:.1%}")
    return broken
