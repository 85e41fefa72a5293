"""A worker that stops at one moment of its first job until it is released: something to strike at.

    python -m tests.support.strikes MOMENT FOLDER

It is the real worker; only the one call that makes the moment is wrapped, in its process alone. ``FOLDER``
holds what both sides see: ``<moment>.reached`` (process and task id), ``released`` and ``<moment>.left``.
"""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery.worker.request import Request

from tests.support.waiting import wait_until
from worker.attempt import Attempt
from worker.delivery import s3
from worker.jobs import JobStore
from worker.progress import Reporter
from worker.running import Post, run_worker
from worker.settings import load_settings
from worker.sources import convert

if TYPE_CHECKING:
    from collections.abc import Callable

PARKED_S = 120.0


class Moment(StrEnum):
    """Stations of a job, in their order. The acknowledgement is the parent's, all before it the child's."""

    BEFORE_CLAIM = "before_claim"
    AFTER_CLAIM = "after_claim"
    CONVERTED = "converted"  # of a recording that needs it; its copy has not got its name yet
    RUNNING = "running"
    RESULT_STORED = "result_stored"  # the file is there, the record does not name it yet
    KEPT = "kept"  # of a job that goes to a bucket: the record names the result, nothing is uploaded
    HALF_UPLOADED = "half_uploaded"  # one of its two objects is there
    UPLOADED = "uploaded"  # both are, the record does not say so yet
    COMMITTED = "committed"  # nothing is tidied up, and Celery does not know of the end
    BEFORE_ACK = "before_ack"
    AFTER_ACK = "after_ack"

    @property
    def is_committed(self) -> bool:
        return self in {Moment.COMMITTED, Moment.BEFORE_ACK, Moment.AFTER_ACK}


# The call at which a moment lies, and whether it is over by then.
CALLS: dict[Moment, tuple[Any, str, bool]] = {
    Moment.BEFORE_CLAIM: (Attempt, "load", False),
    Moment.AFTER_CLAIM: (Attempt, "load", True),
    Moment.CONVERTED: (convert, "_write", True),
    Moment.RUNNING: (Reporter, "from_engine", True),
    Moment.RESULT_STORED: (Attempt, "settle", True),
    Moment.KEPT: (Attempt, "keep", True),
    Moment.HALF_UPLOADED: (s3, "_put_patiently", True),
    Moment.UPLOADED: (Attempt, "deliver", True),
    Moment.COMMITTED: (JobStore, "complete", True),
    Moment.BEFORE_ACK: (Request, "acknowledge", False),
    Moment.AFTER_ACK: (Request, "acknowledge", True),
}


@dataclass(frozen=True)
class Gate:
    """One worker's stop, seen from both sides."""

    folder: Path
    moment: Moment

    @property
    def reached(self) -> Path:
        return self.folder / f"{self.moment}.reached"

    @property
    def left(self) -> Path:
        return self.folder / f"{self.moment}.left"

    @property
    def released(self) -> Path:
        return self.folder / "released"

    def parked(self) -> tuple[int, str]:
        """The process that stopped, and the job that it stopped with."""
        pid, task_id = self.reached.read_text().split()
        return int(pid), task_id

    def release(self) -> None:
        self.released.touch()

    def park(self, task_id: str) -> None:
        """Stop here, unless this worker has done so before: the struck job must get through afterwards."""
        if self._is_first(task_id):
            wait_until(self.released.exists, PARKED_S, "the release")
            self.left.touch()

    def _is_first(self, task_id: str) -> bool:
        aside = self.folder / f"{self.moment}.{os.getpid()}"
        aside.write_text(f"{os.getpid()} {task_id}")
        try:
            os.link(aside, self.reached)  # appears whole, and only once
        except FileExistsError:
            return False
        return True

    def install(self) -> None:
        owner, name, afterwards = CALLS[self.moment]
        setattr(owner, name, self._wrap(getattr(owner, name), afterwards=afterwards))

    def _wrap(self, call: Callable[..., Any], *, afterwards: bool) -> Callable[..., Any]:
        @functools.wraps(call)
        def stopping(subject: Any, *args: Any, **kwargs: Any) -> Any:
            if not afterwards:
                self.park(_task_id_of(subject, *args))
            result = call(subject, *args, **kwargs)
            if afterwards:
                self.park(_task_id_of(subject, *args))
            return result

        return stopping


def _task_id_of(subject: Any, *args: Any) -> str:
    """Of an attempt, a request or a reporter; of a file in a job's folder; of a call of the store."""
    if isinstance(subject, JobStore):
        return str(args[0])
    if isinstance(subject, Path):
        return str(subject.parent.name)
    return str(getattr(subject, "task_id", "unknown"))  # a client of S3 knows of no job


def main() -> int:
    moment, folder = Moment(sys.argv[1]), Path(sys.argv[2])
    Gate(folder, moment).install()
    return run_worker(load_settings(), Post(f"{moment}@test"))


if __name__ == "__main__":
    sys.exit(main())
