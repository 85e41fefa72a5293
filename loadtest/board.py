"""What the users of a load run know of its jobs: which were accepted, which they saw end, and how."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

ENDS = {"completed", "failed"}
RECENT = 500  # jobs that users still ask for


@dataclass
class Board:
    """Shared by all users of a process. For greenlets: nothing here waits."""

    accepted: list[str] = field(default_factory=list)
    ends: dict[str, str] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)
    _open: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT))
    _completed: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT))

    def accept(self, task_id: str) -> None:
        self.accepted.append(task_id)
        self._open.append(task_id)

    def tell(self, task_id: str, status: str) -> None:
        """What a user was told. An end is the last word; an earlier state may be an answer that came late."""
        if status not in ENDS:
            return
        known = self.ends.get(task_id)
        if known is None:
            self._end(task_id, status)
        elif status != known:
            self.contradictions.append(f"{task_id}: was told {known}, then {status}")

    def any_open(self) -> str | None:
        """A recent job that has not ended as far as users know; where none is, any recent one."""
        return _any(self._open) or _any(self._completed)

    def any_completed(self) -> str | None:
        return _any(self._completed)

    def as_json(self) -> dict[str, Any]:
        return {"accepted": self.accepted, "ends": self.ends, "contradictions": self.contradictions}

    def _end(self, task_id: str, status: str) -> None:
        self.ends[task_id] = status
        if task_id in self._open:
            self._open.remove(task_id)
        if status == "completed":
            self._completed.append(task_id)


def _any(jobs: deque[str]) -> str | None:
    return random.choice(jobs) if jobs else None  # noqa: S311  load, not a secret
