"""A job in the hands of one delivery: what its attempt says in the record, and the files it leaves behind.

Owns every move of the record that an attempt makes: taking the job, naming what it has, and the job's one
end. Each is made under the lease and is safe to repeat, since an answer of the server can get lost. An
attempt that has lost its lease can say nothing that others see: reports and the commit check the lease inside
their scripts, and a settled result that was not committed is removed.

It must not know how a recording becomes a result (worker/attempt.py), nor what Celery is told of the end
(worker/tasks.py, worker/outcomes.py).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from worker.jobs import Fence, JobRecord, JobState, MoveOutcome
from worker.jobs.options import JobOptions
from worker.logs import get_logger
from worker.patience import patiently
from worker.progress import Abandoned, Reporter
from worker.tracing import NO_SPAN, Span, Steps

if TYPE_CHECKING:
    from celery import Task

    from worker.errors import JobError
    from worker.tools import Tools

log = get_logger(__name__)


class Settled(Exception):
    """The job has its one end already; a delivery of it only repeats what was said."""

    def __init__(self, record: JobRecord) -> None:
        super().__init__(record.id)
        self.record = record


class Claim:
    """One job, owned by one delivery (``lease``)."""

    def __init__(self, tools: Tools, task: Task) -> None:
        request = task.request
        self.tools = tools
        self.task_id: str = request.id
        self.lease: str = request.lease_id
        self.number: int = request.attempt + request.retries
        self.worker: str = request.hostname
        self.folder = tools.cache.folder(self.task_id)
        self.options = JobOptions()
        self.owner = ""
        self.url = ""
        self.claimed: JobRecord | None = None
        self.span: Span = NO_SPAN
        self.fields: dict[str, Any] = {}  # what the record is to say of the result
        self.reporter = Reporter(tools.store, self.task_id, self.lease, publish=task.update_state)

    def load(self) -> None:
        outcome = patiently(
            lambda: self.tools.store.claim(
                self.task_id, self.lease, attempt=self.number, worker=self.worker, now=time.time()
            )
        )
        if outcome is MoveOutcome.ENDED:
            record = patiently(lambda: self.tools.store.get(self.task_id))
            if record is not None:
                raise Settled(record)
        if outcome is not MoveOutcome.MOVED:
            raise Abandoned(outcome)
        claimed = patiently(lambda: self.tools.store.get(self.task_id))
        if claimed is None:
            raise Abandoned(MoveOutcome.GONE)
        self.options = claimed.options
        self.owner = claimed.owner
        self.url = claimed.url
        self.claimed = claimed
        self._trace(claimed.traceparent)
        kept = self.folder.path / claimed.result
        if claimed.result and kept.exists():
            self.fields = {
                "result": claimed.result,
                "stored_bytes": kept.stat().st_size,
                "warnings": claimed.warnings,
                "fraction": 1.0,
            }
        log.info("job_claimed", worker=self.worker, request_id=claimed.request_id or None)

    def _trace(self, parent: str) -> None:
        self.span = self.tools.tracing.begin(
            "attempt", "consumer", parent, task_id=self.task_id, attempt=self.number, worker=self.worker
        )
        self.reporter.steps = Steps(self.tools.tracing, self.span.traceparent)

    def keep_books(self, size_bytes: int) -> None:
        """Note how large the fetched recording is; patiently, since the owner's limits go by it."""
        fields = self.reporter.received(size_bytes)
        if not patiently(lambda: self.tools.store.report(self.task_id, self.lease, fields)):
            raise Abandoned(MoveOutcome.LOST)

    def keep(self) -> None:
        """Let the record name the settled result: attempts after this one only deliver it."""
        fields = {**self.fields, **self.reporter.delivering()}
        del fields["stored_bytes"]  # the recording is still here
        if patiently(lambda: self.tools.store.report(self.task_id, self.lease, fields)):
            return
        self._drop_own_result()
        raise Abandoned(MoveOutcome.LOST)

    def record(self) -> dict[str, Any]:
        result, urls = self.fields["result"], self.fields.get("s3_urls", [])
        outcome = patiently(
            lambda: self.tools.store.complete(self.task_id, self.lease, now=time.time(), fields=self.fields)
        )
        if outcome is not MoveOutcome.MOVED and not self._said_before(result=result, s3_urls=urls):
            self._drop_own_result()
            raise Abandoned(outcome)
        self.tidy_up(result)
        self._count_end()
        return summary(self.task_id, result)

    def fail(self, error: JobError) -> None:
        """Make ``error`` the job's one end."""
        outcome = patiently(
            lambda: self.tools.store.fail(
                self.task_id,
                code=error.code,
                message=error.message,
                step=self.reporter.current_step,
                now=time.time(),
                lease=self.lease,
                fence=Fence.HOLD,
            )
        )
        if outcome is not MoveOutcome.MOVED and not self._said_before(error_code=error.code):
            raise Abandoned(outcome)
        self.tidy_up(self.folder.input.name)
        self._count_end()

    def wait_again(self) -> None:
        """Let the job wait for another attempt; Celery's retry makes the new entry."""
        record = patiently(lambda: self.tools.store.get(self.task_id))
        if record is None or record.lease != self.lease:
            raise Abandoned(MoveOutcome.LOST)
        outcome = patiently(lambda: self.tools.store.wait_again(record, fence=Fence.HOLD))
        if outcome is not MoveOutcome.MOVED and not self._said_before(state=JobState.WAITING):
            raise Abandoned(outcome)

    def tidy_up(self, keep: str) -> None:
        """Remove all files but one: the result, or a failed job's input, for an operator to look at.

        The job has ended: nothing here may undo that. ``keep`` is empty where the result was delivered.
        """
        try:
            if keep:
                self.folder.keep_only(keep)
            else:
                self.folder.remove()
        except OSError as exc:
            log.warning("not_tidied_up", error=type(exc).__name__)

    def _drop_own_result(self) -> None:
        """Remove this attempt's result, unless it is the job's: another attempt may be delivering it."""
        result = self.folder.result(self.lease)
        record = patiently(lambda: self.tools.store.get(self.task_id))
        if record is None or record.result != result.name:
            result.unlink(missing_ok=True)

    def _count_end(self) -> None:
        """Add the job to the counts; they are not worth an attempt."""
        try:
            record = self.tools.store.get(self.task_id)
            only_delivered = self.claimed is not None and bool(self.claimed.result)
            if record and record.started_at and record.ended_at:
                # How fast a URL's server was says nothing of the next job's.
                self.tools.count_job(record, speed_tells=not self.url and not only_delivered)
        except RedisError as exc:
            log.warning("job_not_counted", error=type(exc).__name__)

    def _said_before(self, **fields: object) -> bool:
        """Whether the record is as this attempt's own move would leave it: the move's answer got lost.

        Its lease alone does not tell: whoever cancels or buries a job leaves the lease as it is.
        """
        record = patiently(lambda: self.tools.store.get(self.task_id))
        said = {"lease": self.lease, **fields}
        return record is not None and all(getattr(record, name) == value for name, value in said.items())


def summary(task_id: str, result: str) -> dict[str, Any]:
    """What Celery's result backend keeps: enough for a monitor, nothing that was said."""
    return {"task_id": task_id, "result": result}
