"""What the parent makes of what it sees of its child."""

from __future__ import annotations

from worker.guard import is_overdue, is_unwanted, seen_now, stalled
from worker.jobs import JobRecord, JobState


def record(**fields: object) -> JobRecord:
    return JobRecord.model_validate({"id": "a", "state": JobState.RUNNING, "created_at": 0.0, **fields})


def test_a_place_that_stays_the_same_keeps_its_first_time() -> None:
    seen = seen_now({}, {"a": record(moved_at=1.0)}, now=0)
    seen = seen_now(seen, {"a": record(moved_at=1.0)}, now=50)
    assert stalled(seen, now=50, stall_s=49) == ["a"]
    assert stalled(seen, now=50, stall_s=51) == []


def test_progress_or_another_attempt_begin_a_new_time() -> None:
    for change in ({"moved_at": 2.0}, {"attempt": 2}):
        seen = seen_now({}, {"a": record(moved_at=1.0)}, now=0)
        seen = seen_now(seen, {"a": record(**{"moved_at": 1.0, **change})}, now=50)
        assert stalled(seen, now=60, stall_s=20) == []


def test_what_no_longer_runs_is_forgotten() -> None:
    seen = seen_now({}, {"a": record()}, now=0)
    assert seen_now(seen, {}, now=1) == {}


def test_only_a_released_or_cancelled_job_is_unwanted() -> None:
    assert is_unwanted(None)
    assert is_unwanted(record(state=JobState.FAILED, error_code="cancelled"))
    assert not is_unwanted(record())
    assert not is_unwanted(record(state=JobState.COMPLETED))


def test_an_attempt_is_overdue_behind_its_deadline_while_it_runs() -> None:
    assert is_overdue(record(deadline=10.0), now=11)
    assert not is_overdue(record(deadline=10.0), now=9)
    assert not is_overdue(record(), now=11)
    assert not is_overdue(record(deadline=10.0, state=JobState.COMPLETED), now=11)
    assert not is_overdue(None, now=11)
