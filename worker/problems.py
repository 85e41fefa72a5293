"""Why a worker takes no job, for whoever asks whether the service is ready.

A worker says so again and again for as long as it holds; what it has not said lately is over.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import redis

PROBLEMS_KEY = "worker-problems"  # hash: worker name -> {"reason": text, "until": Unix seconds}
LASTS_S = 60.0


def report_problem(client: redis.Redis, worker: str, reason: str, now: float) -> None:
    """Say, for LASTS_S, why ``worker`` takes no job. ``reason`` must hold no secret: anybody may read it."""
    pipe = client.pipeline(transaction=False)
    pipe.hset(PROBLEMS_KEY, worker, json.dumps({"reason": reason, "until": now + LASTS_S}))
    pipe.expire(PROBLEMS_KEY, int(LASTS_S))
    pipe.execute()


def current_problems(client: redis.Redis, now: float) -> dict[str, str]:
    """Reason by worker name."""
    found = cast("dict[str, str]", client.hgetall(PROBLEMS_KEY))
    problems = {worker: json.loads(text) for worker, text in found.items()}
    return {worker: one["reason"] for worker, one in sorted(problems.items()) if one["until"] > now}
