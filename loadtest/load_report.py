"""A load run as Markdown."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from loadtest.worker_alone import LONG_S, SHORT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from loadtest.ends import Ends
    from loadtest.knee import Knee, Step
    from loadtest.limits import Endpoint
    from loadtest.worker_alone import Alone


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median, and where there are several, the least and the most."""
    median = f"{statistics.median(values):.{digits}f}"
    return median if len(values) < 2 else f"{median} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def endpoint_lines(rounds: Sequence[Sequence[Endpoint]], limits_ms: Mapping[str, float]) -> list[str]:
    """A row for each endpoint that any round asked for."""
    found: dict[str, list[Endpoint]] = {}
    for endpoints in rounds:
        for one in endpoints:
            found.setdefault(one.name, []).append(one)
    return [
        "| endpoint | requests a second | p50 ms | p95 ms | p99 ms | limit of p95 |",
        "|---|---|---|---|---|---|",
        *(endpoint_row(name, found[name], limits_ms[name]) for name in limits_ms if name in found),
    ]


def endpoint_row(name: str, ones: Sequence[Endpoint], limit_ms: float) -> str:
    def cell(figure: Callable[[Endpoint], float], digits: int = 0) -> str:
        return spread([figure(one) for one in ones], digits)

    cells = [
        cell(lambda one: one.per_s, 1),
        cell(lambda one: one.p50_ms),
        cell(lambda one: one.p95_ms),
        cell(lambda one: one.p99_ms),
    ]
    return f"| `{name}` | {' | '.join(cells)} | {limit_ms:g} |"


def total_line(rounds: Sequence[Sequence[Endpoint]], cores: Sequence[Mapping[str, float]]) -> str:
    per_s = [sum(one.per_s for one in endpoints) for endpoints in rounds]
    failed = sum(one.failures for endpoints in rounds for one in endpoints)
    made = sum(one.requests for endpoints in rounds for one in endpoints)
    used = ", ".join(f"{kind} {spread([one[kind] for one in cores], 2)}" for kind in cores[0])
    return f"{spread(per_s)} requests a second, {failed} of {made} failed; cores used: {used}."


def ends_line(ends: Sequence[Ends]) -> str:
    completed, failed = sum(one.completed for one in ends), sum(sum(one.failed.values()) for one in ends)
    return (
        f"Jobs accepted: {sum(one.accepted for one in ends)}; completed {completed}, failed {failed}, "
        f"**lost {sum(one.lost for one in ends)}**. p95 of their wait for a worker: "
        f"{spread([one.wait_p95_s for one in ends], 1)} s."
    )


def step_lines(steps: Sequence[Step], cores: Sequence[Mapping[str, float]], knee: Knee) -> list[str]:
    kinds = list(cores[0]) if cores else []
    return [
        "| users | requests a second | p50 ms | p95 ms | failed |" + "".join(f" {k}, cores |" for k in kinds),
        "|---|---|---|---|---|" + "---|" * len(kinds),
        *(
            f"| {step.users} | {step.per_s:.0f} | {step.p50_ms:.0f} | {step.p95_ms:.0f} | {step.failures} | "
            + " | ".join(f"{used[kind]:.2f}" for kind in kinds)
            + " |"
            for step, used in zip(steps, cores, strict=True)
        ),
        "",
        knee_line(knee),
    ]


def knee_line(knee: Knee) -> str:
    if knee.step is None:
        return f"Knee: below the first step: {knee.reason}."
    behind = f"{knee.reason}" if knee.reason else "no step was too much: it lies higher"
    return f"Knee: {knee.step.users} users, {knee.step.per_s:.0f} requests a second; {behind}."


def alone_lines(rounds: Sequence[Alone]) -> list[str]:
    return [
        "| one worker, an engine that costs nothing | measured |",
        "|---|---|",
        f"| jobs of {SHORT_S} s a second | {spread([one.jobs_per_s for one in rounds], 1)} |",
        f"| cores used meanwhile | {spread([one.cores for one in rounds], 2)} |",
        f"| seconds for a recording of {LONG_S} s | {spread([one.long_s for one in rounds], 2)} |",
    ]
