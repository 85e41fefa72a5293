"""Where a job is, and how long the rest will take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from worker.engines.protocol import Progress
from worker.progress import CONVERT, FETCH, Reporter, remaining_s

if TYPE_CHECKING:
    import pytest

    from worker.jobs import JobStore


def test_the_rest_takes_as_long_as_the_speed_so_far_says() -> None:
    assert remaining_s(10, 0.25) == 30
    assert remaining_s(10, 1.0) == 0


def test_what_an_earlier_attempt_did_says_nothing_about_the_speed() -> None:
    assert remaining_s(10, 0.75, first=0.5) == 10


def test_before_there_is_a_speed_nothing_is_said() -> None:
    assert remaining_s(10, 0.5, first=0.5) == ""
    assert remaining_s(0, 0.0) == ""


class Records:
    """A store that takes every report."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []

    def report(self, _task_id: str, _lease: str, fields: dict[str, Any]) -> bool:
        self.reports.append(fields)
        return True


def test_a_fetch_is_a_step_of_its_own_and_the_fraction_never_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.progress.REPORT_EVERY_S", 0)
    store = Records()
    reporter = Reporter(cast("JobStore", store), "id", "lease", lambda *, state, meta: None)
    reporter.own_steps = (FETCH, CONVERT)
    reporter.step(FETCH)
    reporter.fetching(50, 100)
    reporter.still_fetching()
    reporter.fetching(70, None)  # begun anew, of a length that nobody told
    reporter.fetching(100, 100)
    store.reports.append(reporter.received(100))
    reporter.step(CONVERT)
    for fraction in (0.0, 0.5, 1.0):
        reporter.from_engine(Progress("transcribe", 1, 1, fraction))
    places = [(report["step_number"], report["step_of"], report["fraction"]) for report in store.reports]
    assert places == [
        *((1, 3, 0.0), (1, 3, 0.05), (1, 3, 0.05), (1, 3, 0.05), (1, 3, 0.1), (1, 3, 0.1)),
        *((2, 3, 0.1), (3, 3, 0.1), (3, 3, 0.55), (3, 3, 1.0)),
    ]
    assert all(report["moved_at"] for report in store.reports), "the guard would take a fetch for a stall"
    assert [report["size_bytes"] for report in store.reports if "size_bytes" in report] == [100]


def test_an_upload_begins_with_its_conversion() -> None:
    store = Records()
    reporter = Reporter(cast("JobStore", store), "id", "lease", lambda *, state, meta: None)
    reporter.step(CONVERT)
    reporter.from_engine(Progress("transcribe", 1, 1, 0.5))
    places = [(report["step_number"], report["step_of"], report["fraction"]) for report in store.reports]
    assert places == [(1, 2, 0.0), (2, 2, 0.5)]
