"""Green, amber or red: by the reports alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from worker.gpu.readings import Device, Process, Reading
from worker.gpu.report import (
    FORGOTTEN_AFTER_S,
    REPORTS_KEY,
    DeviceReport,
    State,
    WorkerReport,
    drop_report,
    publish_report,
    read_reports,
    used_by,
)
from worker.gpu.verdict import Colour, judge, judge_all

if TYPE_CHECKING:
    import redis

NOW = 1000.0


def report(worker: str = "gpu0@h", **fields: Any) -> WorkerReport:
    usual = {"at": NOW - 1, "state": State.READY, "reason": "there is room", "admitted": True}
    return WorkerReport(worker=worker, **{**usual, **fields})


def device(*throttles: str) -> DeviceReport:
    return DeviceReport(uuid="GPU-a", label="0", name="Stub A", throttle_reasons=list(throttles))


@pytest.mark.parametrize(
    ("fields", "colour", "reason"),
    [
        ({}, Colour.GREEN, "there is room"),
        ({"state": State.BUSY, "reason": "it works"}, Colour.GREEN, "it works"),
        ({"state": State.REFUSING, "reason": "full"}, Colour.AMBER, "refusing: full"),
        ({"state": State.LOADING}, Colour.AMBER, "loading: there is room"),
        ({"state": State.FAULTY, "reason": "GPU is lost"}, Colour.RED, "faulty: GPU is lost"),
        ({"state": State.MISSING, "reason": "gone"}, Colour.RED, "missing: gone"),
        ({"state": State.RESTARTING, "reason": "died"}, Colour.RED, "restarting: died"),
        ({"at": NOW - 11, "state": State.BUSY}, Colour.RED, "lost: silent for 11 s (was busy)"),
        ({"device": device("thermal")}, Colour.AMBER, "slowed down: thermal"),
        ({"device": device("power_cap")}, Colour.GREEN, "there is room"),
        ({"degraded": "no GPU was found"}, Colour.AMBER, "no GPU was found"),
    ],
)
def test_a_workers_verdict(fields: dict[str, Any], colour: Colour, reason: str) -> None:
    verdict = judge(report(**fields), NOW)
    assert (verdict.colour, verdict.reason) == (colour, reason)


def test_all_are_red_only_where_none_can_work() -> None:
    good, bad = report("a"), report("b", state=State.FAULTY)
    assert judge_all([], NOW).verdict.colour is Colour.RED
    assert judge_all([good], NOW).verdict.reason == "1 green"
    mixed = judge_all([good, bad], NOW).verdict
    assert (mixed.colour, mixed.reason) == (Colour.AMBER, "1 green, 1 red")
    assert judge_all([bad], NOW).verdict.colour is Colour.RED
    assert judge_all([bad, report("c", state=State.REFUSING)], NOW).verdict.colour is Colour.AMBER


def test_silent_workers_are_kept_for_a_day_and_can_be_dropped(client: redis.Redis) -> None:
    now = time.time()
    for name, age_s in (("a", 0.0), ("b", 3600.0), ("c", FORGOTTEN_AFTER_S + 1)):
        publish_report(client, report(name, at=now - age_s))
    assert [one.worker for one in read_reports(client, now)] == ["a", "b"]
    assert client.hkeys(REPORTS_KEY) == ["a", "b"]
    assert drop_report(client, "b")
    assert not drop_report(client, "b")
    assert [one.worker for one in read_reports(client, now)] == ["a"]


def test_our_share_is_unknown_where_the_driver_does_not_know_our_process() -> None:
    reading = Reading(Device("GPU-a", "0", ""), NOW, processes=(Process(7, 100), Process(8, None)))
    assert used_by(reading, 7, loaded=True) == 100
    assert used_by(reading, 8, loaded=True) is None
    assert used_by(reading, 9, loaded=True) is None
    assert used_by(reading, 9, loaded=False) == 0
