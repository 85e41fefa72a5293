"""Which one word a client reads, for every pair of Celery's word and the record's state."""

from __future__ import annotations

import itertools

import pytest

from gateway.status import Status, project, view
from worker.jobs import JobRecord, JobState

PENDING, PROCESSING, COMPLETED, FAILED = Status
ENDS = {JobState.COMPLETED: COMPLETED, JobState.FAILED: FAILED}
BEFORE_THE_END = {
    # Celery's word: (record waiting, record running)
    "PENDING": (PENDING, PROCESSING),
    "RECEIVED": (PENDING, PROCESSING),
    "STARTED": (PENDING, PROCESSING),
    "PROGRESS": (PENDING, PROCESSING),
    "RETRY": (PENDING, PROCESSING),
    "IGNORED": (PENDING, PROCESSING),
    "SUCCESS": (PENDING, PROCESSING),  # the commit came after the record was read
    "FAILURE": (PENDING, PROCESSING),  # of an attempt that could not record its end, and will be repeated
    "REJECTED": (PENDING, PROCESSING),
    "REVOKED": (FAILED, FAILED),
}


def record(state: JobState, **fields: object) -> JobRecord:
    return JobRecord.model_validate({"id": "x", "state": state, "created_at": 0.0, **fields})


@pytest.mark.parametrize("celery_state", BEFORE_THE_END)
def test_before_the_end(celery_state: str) -> None:
    waiting, running = BEFORE_THE_END[celery_state]
    assert project(celery_state, record(JobState.WAITING)) is waiting
    assert project(celery_state, record(JobState.RUNNING)) is running


@pytest.mark.parametrize(("celery_state", "state"), list(itertools.product(BEFORE_THE_END, ENDS)))
def test_a_recorded_end_wins(celery_state: str, state: JobState) -> None:
    assert project(celery_state, record(state)) is ENDS[state]


def test_a_revocation_that_is_not_recorded_yet_has_an_error_too() -> None:
    shown = view(record(JobState.RUNNING, step="convert"), FAILED, None, None)
    assert shown.error is not None
    assert (shown.error.code, shown.error.step) == ("cancelled", "convert")


def test_progress_is_shown_only_while_processing() -> None:
    running = record(JobState.RUNNING, step="transcribe", step_number=2, step_of=2, fraction=0.5, eta_s=3)
    assert view(running, FAILED, None, None).progress is None
    shown = view(running, PROCESSING, None, None).progress
    assert shown is not None
    assert shown.model_dump() == {"step": "transcribe", "number": 2, "of": 2, "fraction": 0.5, "eta_s": 3}
