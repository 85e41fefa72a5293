"""The states of a job record and the one table of legal moves between them."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return not MOVES[self]


# From each state, the states that may follow. A running job runs again when its worker was lost, and
# waits again when an attempt is to be repeated later. A waiting job is completed where its result is there
# already and only its delivery was attempted in vain. Nothing leaves a final state: there, exactly one
# result or one error stands. (Release and expiry remove the record, and an operator may begin a job anew
# that was given up; those are no moves.)
MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.WAITING: frozenset({JobState.RUNNING, JobState.COMPLETED, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.RUNNING, JobState.WAITING, JobState.COMPLETED, JobState.FAILED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
}


def sources_of(target: JobState) -> list[JobState]:
    """The states from which ``target`` may be reached; what the move script checks."""
    return [state for state in JobState if target in MOVES[state]]
