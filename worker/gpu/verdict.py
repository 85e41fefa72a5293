"""What the reports amount to: green, amber or red, for each worker and for all, each with its reason."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import BaseModel

from worker.gpu.report import State, WorkerReport

if TYPE_CHECKING:
    from collections.abc import Sequence

SILENT_AFTER_S = 10.0


class Colour(StrEnum):
    GREEN = "green"  # it works, or would at once
    AMBER = "amber"  # look at it when you can: it takes no job for now, or is not at its best
    RED = "red"  # it does no work before somebody or something mends it


class Verdict(BaseModel):
    colour: Colour
    reason: str


class Judged(BaseModel):
    verdict: Verdict
    report: WorkerReport


class Fleet(BaseModel):
    """All workers. ``verdict`` is red where none can work, amber where any is less than green."""

    verdict: Verdict
    workers: list[Judged]


_RED = {State.FAULTY, State.MISSING, State.RESTARTING}
_AMBER = {State.LOADING, State.REFUSING, State.DRAINING}
# Clocks that are lowered by heat or by failing power. A power cap is how a busy GPU runs every day.
_WORRYING = {"hardware_slowdown", "thermal", "hardware_thermal", "power_brake"}


def judge(report: WorkerReport, now: float) -> Verdict:
    silent_s = now - report.at
    if silent_s > SILENT_AFTER_S:
        return Verdict(colour=Colour.RED, reason=f"lost: silent for {silent_s:.0f} s (was {report.state})")
    if report.state in _RED:
        return Verdict(colour=Colour.RED, reason=f"{report.state}: {report.reason}")
    if report.state in _AMBER:
        return Verdict(colour=Colour.AMBER, reason=f"{report.state}: {report.reason}")
    slowed = _WORRYING.intersection(report.device.throttle_reasons if report.device else [])
    if slowed:
        return Verdict(colour=Colour.AMBER, reason=f"slowed down: {', '.join(sorted(slowed))}")
    if report.degraded:
        return Verdict(colour=Colour.AMBER, reason=report.degraded)
    return Verdict(colour=Colour.GREEN, reason=report.reason)


def judge_all(reports: Sequence[WorkerReport], now: float) -> Fleet:
    judged = [Judged(verdict=judge(report, now), report=report) for report in reports]
    return Fleet(verdict=_overall([one.verdict.colour for one in judged]), workers=judged)


def _overall(colours: Sequence[Colour]) -> Verdict:
    count = Counter(colours)
    told = ", ".join(f"{count[colour]} {colour}" for colour in Colour if count[colour])
    if not colours:
        return Verdict(colour=Colour.RED, reason="no worker has reported")
    if count[Colour.RED] == len(colours):
        return Verdict(colour=Colour.RED, reason=f"no worker can work: {told}")
    if count[Colour.GREEN] == len(colours):
        return Verdict(colour=Colour.GREEN, reason=told)
    return Verdict(colour=Colour.AMBER, reason=told)
