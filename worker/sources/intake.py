"""What every way of fetching shares: limits, retries, and the measured way of bytes into the part file.

A source (HTTP, S3) makes one try at a time; here it is decided whether another follows, and when.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.errors import (
    DiskFull,
    InputMissing,
    Interrupted,
    JobError,
    SourceIncomplete,
    SourceTooLarge,
    SourceUnavailable,
)
from worker.logs import get_logger
from worker.sources.resuming import Part

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.sources.watching import Watch

log = get_logger(__name__)

SPACE_EVERY_BYTES = 8 * 1024**2
PROGRESS_BYTES = 1024**2  # a try that brought so much was no try in vain
LONGEST_WAIT_S = 30.0


@dataclass(frozen=True)
class FetchLimits:
    """``tries`` counts those in a row that brought next to nothing; ``total_s`` is for all of them.

    ``idle_s`` is the longest wait for a byte, ``connect_s`` for name, connection and TLS, each. A server that
    asks for a longer pause than ``longest_pause_s`` has it between two attempts: a worker has other jobs.
    """

    max_bytes: int
    connect_s: float = 10
    idle_s: float = 30
    total_s: float = 3600
    redirects: int = 5
    tries: int = 5
    first_wait_s: float = 1
    longest_pause_s: float = 60


@dataclass(frozen=True)
class Fetched:
    """``content_type`` is the server's word, or empty; ``resumed_bytes`` were there before."""

    size_bytes: int
    content_type: str = ""
    resumed_bytes: int = 0


@dataclass
class Intake:
    """Takes the bytes of one recording. ``report``, of bytes done and in all or None, is called often."""

    part: Part
    limits: FetchLimits
    require_space: Callable[[int], None]
    report: Callable[[int, int | None], None]
    content_type: str = ""
    _space_bytes: int = field(default=0, init=False)  # done when the disk was last looked at

    def begin(self, validator: str, total_bytes: int | None, content_type: str) -> None:
        """A body from the first byte follows."""
        self.part.begin(validator, total_bytes)
        self._prepare(total_bytes, content_type)

    def go_on(self, total_bytes: int | None, content_type: str) -> None:
        """A body from the first byte that is missing follows."""
        self.part.learn_total(total_bytes)
        self._prepare(total_bytes, content_type)

    def take(self, chunk: bytes) -> None:
        done, total = self.part.done_bytes + len(chunk), self.part.note.total_bytes
        self._require_size(done)
        if total is not None and done > total:
            self.part.discard()
            raise SourceIncomplete("the server sent more bytes than it had announced: try again")
        self.part.write(chunk)
        if done - self._space_bytes >= SPACE_EVERY_BYTES:
            self._look_at_disk(0)
        self._report()

    def end(self) -> None:
        """The body ended by itself; raises SourceIncomplete where something is missing."""
        done, total = self.part.done_bytes, self.part.note.total_bytes
        if total is not None and done != total:
            raise SourceIncomplete(f"the recording broke off after {done} of {total} bytes: submit it again")
        self.part.learn_total(done)
        self._report()

    @property
    def is_whole(self) -> bool:
        """Whether an earlier attempt ended between the last byte and the file's name."""
        return self.part.note.can_go_on and self.part.done_bytes == self.part.note.total_bytes

    def _prepare(self, total_bytes: int | None, content_type: str) -> None:
        self.content_type = content_type
        self._require_size(total_bytes or 0)
        self._look_at_disk(max(0, (total_bytes or 0) - self.part.done_bytes))
        self._report()

    def _require_size(self, size_bytes: int) -> None:
        if size_bytes > self.limits.max_bytes:
            raise SourceTooLarge(
                f"the recording is larger than the {self.limits.max_bytes} bytes that are taken: "
                "send a shorter or a compressed one, or release jobs that hold your key's share of the store"
            )

    def _look_at_disk(self, missing_bytes: int) -> None:
        self._space_bytes = self.part.done_bytes
        try:
            self.require_space(missing_bytes)
        except DiskFull as exc:
            raise Interrupted("the cache's disk is full") from exc

    def _report(self) -> None:
        self.report(self.part.done_bytes, self.part.note.total_bytes)


def bring(
    source: str,
    target: Path,
    limits: FetchLimits,
    watch: Watch,
    one_try: Callable[[Intake], None],
    report: Callable[[int, int | None], None],
    require_space: Callable[[int], None],
) -> Fetched:
    """Bring ``source`` to ``target``, whole or not at all, in as many tries as the limits allow.

    What is there of it stays for the next attempt, unless none can help. Raises JobError.
    """
    try:
        part = Part(target, digest(source))
        intake = Intake(part, limits, require_space, report)
        resumed_bytes = part.done_bytes
        try:
            _persist(one_try, intake, watch)
            watch.look()
            part.finish()
        except JobError as exc:
            if not exc.retryable:
                part.discard()
            raise
        finally:
            part.close()
    except FileNotFoundError as exc:
        raise InputMissing("the job's folder was removed meanwhile: submit the recording again") from exc
    return Fetched(part.done_bytes, intake.content_type, resumed_bytes)


def digest(source: str) -> str:
    """What tells sources apart without saying them: URLs may hold secrets."""
    return hashlib.sha256(source.encode()).hexdigest()


def wait_s(failures: int, retry_after_s: float | None, limits: FetchLimits) -> float:
    """Seconds after the failure numbered ``failures`` in a row: what the server asked for, or 1, 2, 4 ..."""
    if retry_after_s is not None:
        return retry_after_s
    return float(min(limits.first_wait_s * 2 ** (failures - 1), LONGEST_WAIT_S))


def _persist(one_try: Callable[[Intake], None], intake: Intake, watch: Watch) -> None:
    failures = 0
    while not intake.is_whole:
        before = intake.part.done_bytes
        try:
            one_try(intake)
        except (SourceUnavailable, SourceIncomplete) as exc:
            intake.part.keep()
            progressed = intake.part.done_bytes - before >= PROGRESS_BYTES
            failures = 1 if progressed else failures + 1
            # The jitter parts jobs that failed together. It adds: nobody is to come before Retry-After.
            pause_s = wait_s(failures, exc.retry_after_s, intake.limits) * random.uniform(1, 1.5)  # noqa: S311  no secret  # nosec B311
            is_long = pause_s >= watch.left_s or (exc.retry_after_s or 0) > intake.limits.longest_pause_s
            if failures >= intake.limits.tries or is_long:
                raise
            log.info("source_try_failed", code=exc.code, failures=failures, wait_s=round(pause_s, 2))
        else:
            return
        watch.sleep(pause_s)
