"""Where a load that grows in steps stops being served as before: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_SHARE = 0.85  # of the first step's requests a second and user
MOST_P95_MS = 500.0
MOST_FAILED = 0.01


@dataclass(frozen=True)
class Step:
    """Requests that began in the measured part of a step; ``seconds`` is that part's length."""

    users: int
    seconds: float
    requests: int
    failures: int
    p50_ms: float
    p95_ms: float

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True)
class Knee:
    """The last step that was served well, and what went wrong in the one behind it; empty: nothing did."""

    step: Step | None
    reason: str


def find_knee(steps: Sequence[Step]) -> Knee:
    """The step before two bad ones in a row, or before a bad one at the end: one alone is a burst.

    Users think as long however slow the service is, so a served load grows as they do.
    """
    for number, step in enumerate(steps):
        reason = what_is_wrong(steps[0], step)
        if reason and all(what_is_wrong(steps[0], one) for one in steps[number + 1 : number + 2]):
            return Knee(steps[number - 1] if number else None, f"at {step.users} users {reason}")
    return Knee(steps[-1] if steps else None, "")


def is_past_it(steps: Sequence[Step]) -> bool:
    """Whether the last two were bad: more steps would tell nothing."""
    return len(steps) > 1 and all(what_is_wrong(steps[0], step) for step in steps[-2:])


def what_is_wrong(first: Step, step: Step) -> str:
    if not step.requests:
        return "no request was answered"
    if step.failures > MOST_FAILED * step.requests:
        return f"{step.failures / step.requests:.1%} of the requests failed"
    if step.p95_ms > MOST_P95_MS:
        return f"p95 is {step.p95_ms:.0f} ms"
    share = (step.per_s / step.users) / (first.per_s / first.users)
    if share < LEAST_SHARE:
        return f"a user gets {share:.0%} of the requests that it got at first"
    return ""
