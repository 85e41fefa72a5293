"""``python -m ops dead``: the jobs whose every attempt died, and what an operator can do with them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ops.maintenance import Keeper, every_dead
from worker import streams
from worker.app import TRANSCRIBE_QUEUE, create_app
from worker.errors import WorkerLost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.settings import Settings


class NoSuchDeadLetter(Exception):
    """There is no dead letter of this task id."""


class DeadLetters:
    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._client = keeper.client

    @classmethod
    def create(cls, settings: Settings) -> DeadLetters:
        return cls(Keeper.create(create_app(settings), settings))

    def list(self) -> Iterator[str]:
        """A line for each: task id, when it died, attempts, how the last one ended."""
        for entry in every_dead(self._client):
            yield f"{entry.task_id}  {died_at(entry)}  {entry.attempts} attempts  {entry.why}"

    def show(self, task_id: str) -> dict[str, Any]:
        """All that is known of it."""
        entry = self._find(task_id)
        record = self._keeper.store.get(task_id)
        return {
            "task_id": task_id,
            "died_at": died_at(entry),
            "attempts": entry.attempts,
            "why": entry.why,
            "last_delivery": entry.lease_id,
            "record": record.model_dump(exclude_none=True, exclude={"webhook_url"}) if record else None,
        }

    def retry(self, task_id: str) -> None:
        """Let the job wait again, at the front of its queue, with all its attempts.

        Safe to repeat. Raises NoSuchDeadLetter also where the job was released or has expired meanwhile.
        """
        entry = self._find(task_id)
        if not self._keeper.store.revive(task_id, WorkerLost.code):
            raise NoSuchDeadLetter(f"job {task_id} is gone, or has ended otherwise: drop its dead letter")
        self._keeper.forget(task_id)
        streams.replay_dead(self._client, TRANSCRIBE_QUEUE, entry.entry_id)

    def drop(self, task_id: str) -> None:
        """Delete the dead letter; the job's record and recording stay until they expire."""
        streams.drop_dead(self._client, TRANSCRIBE_QUEUE, self._find(task_id).entry_id)

    def _find(self, task_id: str) -> streams.DeadEntry:
        for entry in every_dead(self._client):
            if entry.task_id == task_id:
                return entry
        raise NoSuchDeadLetter(f"no dead letter of job {task_id}")


def run_dead(settings: Settings, action: str, task_id: str | None) -> list[str]:
    """Carry out one of list, show, retry, drop; the lines to print."""
    letters = DeadLetters.create(settings)
    if action == "list":
        return list(letters.list())
    if task_id is None:
        raise NoSuchDeadLetter(f"{action} needs a task id: see `python -m ops dead list`")
    if action == "show":
        return [json.dumps(letters.show(task_id), indent=2)]
    if action == "retry":
        letters.retry(task_id)
        return [f"{task_id}: waits again"]
    letters.drop(task_id)
    return [f"{task_id}: dropped"]


def died_at(entry: streams.DeadEntry) -> str:
    died_ms = int(entry.entry_id.partition("-")[0])
    return datetime.fromtimestamp(died_ms / 1000, UTC).isoformat(timespec="seconds")
