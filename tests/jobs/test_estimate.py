"""When a waiting job will have ended."""

from __future__ import annotations

import pytest

from worker.jobs.estimate import Load, waiting_eta_s


def load(**changes: float) -> Load:
    usual = {"waiting": 10, "running": 0, "waiting_bytes": 1000, "done_bytes": 50.0, "done_seconds": 10.0}
    return Load(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("position", "size_bytes", "workers", "running", "seconds"),
    [
        (1, 100, 1, 0, 20.0),  # its own 100 bytes at 5 bytes a second
        (3, 100, 1, 0, 60.0),  # and two average ones ahead
        (3, 100, 2, 0, 40.0),  # which two workers share; its own only one can do
        (1, 100, 1, 1, 30.0),  # half of the one that runs
    ],
)
def test_the_estimate(position: int, size_bytes: int, workers: int, running: int, seconds: float) -> None:
    assert waiting_eta_s(load(running=running), position, size_bytes, workers) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("changes", "workers"), [({"done_bytes": 0.0}, 1), ({"done_seconds": 0.0}, 1), ({}, 0)]
)
def test_without_a_speed_or_a_worker_there_is_none(changes: dict[str, float], workers: int) -> None:
    assert waiting_eta_s(load(**changes), 1, 100, workers) is None


def test_of_recordings_that_are_yet_to_be_fetched_nothing_is_foretold() -> None:
    assert waiting_eta_s(load(), 1, 0, 1) is None
    assert waiting_eta_s(load(waiting_bytes=0), 1, 100, 1) is None
