"""When a load run has failed, where its knee is, and how a lost job is found: the rules alone."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.board import Board
from loadtest.ends import judge
from loadtest.knee import Knee, Step, find_knee, is_past_it
from loadtest.limits import P95_MS, Endpoint, broken_limits

STATUS = "GET /status"
TIMES = {"created_at": "2026-11-25T02:00:00.5Z", "started_at": "2026-11-25T02:00:02.5Z"}


def endpoint(requests: int = 1000, failures: int = 0, p95_ms: float = 10) -> Endpoint:
    return Endpoint(STATUS, requests, failures, 10.0, 5.0, p95_ms, 20.0)


def test_a_run_within_its_limits_breaks_none() -> None:
    assert broken_limits([endpoint(failures=5, p95_ms=P95_MS[STATUS])], P95_MS) == []


@pytest.mark.parametrize(
    ("endpoints", "told"),
    [
        ([endpoint(p95_ms=P95_MS[STATUS] + 1)], "GET /status: p95 501 ms, limit 500 ms"),
        ([endpoint(failures=6)], "6 of 1000 requests failed, limit 0.5%"),
        ([endpoint(requests=0)], "no request was made"),
        ([], "no request was made"),
    ],
)
def test_a_broken_limit_is_told(endpoints: list[Endpoint], told: str) -> None:
    assert broken_limits(endpoints, P95_MS) == [told]


def step(users: int, per_s: float, p95_ms: float = 20, failures: int = 0) -> Step:
    return Step(users, 10.0, int(per_s * 10), failures, 5.0, p95_ms)


@pytest.mark.parametrize(
    ("third", "reason"),
    [
        (step(300, 210), "at 300 users a user gets 70% of the requests that it got at first"),
        (step(300, 290, p95_ms=501), "at 300 users p95 is 501 ms"),
        (step(300, 290, failures=290), "at 300 users 10.0% of the requests failed"),
        (step(300, 0), "at 300 users no request was answered"),
    ],
)
def test_the_knee_is_the_last_step_that_was_served(third: Step, reason: str) -> None:
    first, second = step(100, 100), step(200, 190)
    fourth = step(400, 400, p95_ms=9000)
    assert (
        find_knee([first, second, third, fourth]) == find_knee([first, second, third]) == Knee(second, reason)
    )
    assert is_past_it([first, second, third, fourth])
    assert not is_past_it([first, second, third])


def test_one_bad_step_between_good_ones_is_a_burst() -> None:
    burst, third = step(200, 190, p95_ms=9000), step(300, 300)
    assert find_knee([step(100, 100), burst, third]) == Knee(third, "")
    assert not is_past_it([step(100, 100), burst, third])


def test_a_load_that_was_served_to_its_end_has_no_knee() -> None:
    assert find_knee([step(100, 100), step(200, 199)]) == Knee(step(200, 199), "")


def test_a_first_step_that_was_too_much_leaves_no_knee() -> None:
    assert find_knee([step(100, 100, p95_ms=501)]) == Knee(None, "at 100 users p95 is 501 ms")


def job(task_id: str, status: str, error: dict[str, str] | None = None) -> dict[str, Any]:
    return {"task_id": task_id, "status": status, "error": error, **TIMES}


def test_jobs_that_ended_once_are_no_finding() -> None:
    ends = judge(
        ["a", "b"], {"a": "completed"}, [job("a", "completed"), job("b", "completed")], {"a": 1, "b": 1}
    )
    assert (ends.accepted, ends.lost, ends.completed, ends.findings) == (2, 0, 2, [])
    assert ends.wait_p95_s == 2.0


@pytest.mark.parametrize(
    ("now", "results", "told"),
    [
        (None, {}, "a: accepted, but lost"),
        (job("a", "completed"), {"a": 2}, "a: completed, with 2 results"),
        (job("a", "completed"), {"a": 0}, "a: completed, with 0 results"),
        (job("a", "processing"), {}, "a: has not ended: processing"),
        (job("a", "failed"), {}, "a: failed without an error"),
        (job("a", "failed", {"code": "time_limit"}), {}, "a: was told completed, is now failed"),
        (job("a", "failed", {"code": "time_limit"}), {}, "1 of 3 jobs failed: {'time_limit': 1}"),
    ],
)
def test_what_must_not_be_is_found(now: dict[str, Any] | None, results: dict[str, int], told: str) -> None:
    others = [job("b", "completed"), job("c", "completed")]
    jobs = [*others, now] if now else others
    ends = judge(["a", "b", "c"], {"a": "completed"}, jobs, {"b": 1, "c": 1, **results})
    assert told in ends.findings
    assert ends.lost == (now is None)


def test_the_board_keeps_the_first_end_and_tells_of_another() -> None:
    board = Board()
    board.accept("a")
    for status in ("pending", "completed", "processing"):  # the last is an answer that came late
        board.tell("a", status)
    assert (board.ends, board.contradictions) == ({"a": "completed"}, [])
    assert board.any_completed() == "a"
    board.tell("a", "failed")
    assert board.contradictions == ["a: was told completed, then failed"]
