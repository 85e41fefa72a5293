"""Options that our locustfiles add to Locust's, and what a run leaves for whoever started it."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.limits import P95_MS, Endpoint

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser
    from locust.env import Environment

    from loadtest.board import Board


def add_options(parser: LocustArgumentParser) -> None:
    """Keys come by the environment, so that no process list shows them."""
    parser.add_argument("--client-key", env_var="LOAD_CLIENT_KEY", is_secret=True, default="")
    parser.add_argument("--operator-key", env_var="LOAD_OPERATOR_KEY", is_secret=True, default="")
    parser.add_argument("--recording-url", default="", help="for jobs by URL; empty: there are none")
    parser.add_argument("--think", type=float, default=1.0, help="times all think times")
    parser.add_argument("--outcome", default="", help="file for figures and jobs, as JSON")
    parser.add_argument("--p95-ms", type=float, default=None, help="one limit for all endpoints")
    parser.add_argument("--step-users", type=int, default=100, help="users that each step adds")
    parser.add_argument("--step-seconds", type=float, default=20.0)
    parser.add_argument("--steps", type=int, default=20, help="at most")


def limits_of(options: Any) -> dict[str, float]:
    return P95_MS if options.p95_ms is None else dict.fromkeys(P95_MS, options.p95_ms)


def endpoints_of(environment: Environment) -> list[Endpoint]:
    """Sorted by name."""
    return sorted(
        (
            Endpoint(
                f"{entry.method} {entry.name}",
                entry.num_requests,
                entry.num_failures,
                round(entry.total_rps, 2),
                *(entry.get_response_time_percentile(share) or 0.0 for share in (0.5, 0.95, 0.99)),
            )
            for entry in environment.stats.entries.values()
        ),
        key=lambda one: one.name,
    )


def keep_outcome(environment: Environment, board: Board, **more: Any) -> None:
    path = getattr(environment.parsed_options, "outcome", "")
    if path:
        endpoints = [asdict(one) for one in endpoints_of(environment)]
        failures = failures_of(environment)
        text = json.dumps({"endpoints": endpoints, "failures": failures, **board.as_json(), **more}, indent=1)
        Path(path).write_text(text)


def failures_of(environment: Environment) -> list[str]:
    """A line for each kind: Locust counts an answer's code by its URL, which has the job in it."""
    counts: Counter[str] = Counter()
    for one in environment.stats.errors.values():
        counts[f"{one.method} {one.name}: {re.sub(r'URL [^ ]+: ', '', str(one.error))}"] += one.occurrences
    return [f"{count} x {what}" for what, count in counts.most_common()]
