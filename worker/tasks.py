"""The transcribe task: one attempt at one job, in seven steps, each testable alone.

    load     read the record, take the job for this delivery
    admit    make room: remove what has expired, look at the disk
    fetch    of a job with a URL: bring the recording, or what is missing of it
    run      recording -> 16 kHz mono -> engine, with progress
    settle   write the result aside, under a name no other attempt uses
    deliver  bring it to the bucket that the client named, if it did
    record   commit: the record names the result, if this attempt still owns the job

An attempt that has lost its lease can do none of the steps that others can see: reports and the commit
check the lease inside their scripts, and a settled result that was not committed is removed.

Before a delivery the record names the settled result, with the job still running. From there on the job
can't fail for a worker's death: the next attempt begins at the delivery, and where there is none, the
sweeper completes the job with the result kept here.
"""

from __future__ import annotations

import errno
import random
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NoReturn

from celery.exceptions import Ignore, Reject, Retry
from redis.exceptions import RedisError
from structlog.contextvars import bound_contextvars

from worker.cache import remove_expired
from worker.cache.folder import write_durably
from worker.delivery.bucket import bucket_of, not_delivered
from worker.delivery.document import to_document
from worker.engines.checkpoints import FolderCheckpoints, recording_id
from worker.engines.oom import is_cuda_error, with_room
from worker.engines.protocol import Options
from worker.errors import (
    Cancelled,
    DiskFull,
    EngineFailed,
    EngineUnavailable,
    GpuFault,
    InputMissing,
    Interrupted,
    JobError,
)
from worker.jobs import Fence, JobRecord, JobState, MoveOutcome, Priority
from worker.jobs.options import JobOptions
from worker.jobs.owners import OwnerBooks
from worker.jobs.record import FORMAT
from worker.logs import get_logger
from worker.patience import is_away, patiently
from worker.progress import CONVERT, FETCH, Abandoned, Reporter
from worker.tools import Tools
from worker.tracing import NO_SPAN, Span, Steps

if TYPE_CHECKING:
    from pathlib import Path

    from celery import Celery, Task

    from worker.engines.protocol import Checkpoints, Transcript
    from worker.settings import Settings

log = get_logger(__name__)

TRANSCRIBE_QUEUE = "transcribe"
TRANSCRIBE_TASK = "transcribe"
# Celery's numbers for the transport's levels (worker/streams/levels.py).
CELERY_PRIORITY = {Priority.HIGH: 8, Priority.NORMAL: 5, Priority.LOW: 2}
WELL = frozenset({"completed", "settled_before"})  # outcomes of an attempt
RETRY_BASE_S = 5
RETRY_MAX_S = 300
PARK_S = 15  # until an entry that only a newer release can do comes again
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE})


class Settled(Exception):
    """The job has its one end already; a delivery of it only repeats what was said."""

    def __init__(self, record: JobRecord) -> None:
        super().__init__(record.id)
        self.record = record


class Attempt:
    """One run of one job, owned by one delivery (``lease``)."""

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

    def carry_out(self) -> dict[str, Any]:
        self.load()
        if not self.fields:
            self.admit()
            self.fetch()
            self.settle(self.run())
        self.deliver()
        return self.record()

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

    def admit(self) -> None:
        # Patiently: an outage is no reason to repeat an attempt.
        patiently(lambda: remove_expired(self.tools.cache, self.tools.store, time.time(), self.tools.forget))
        if not self.url and not self.folder.input.exists():
            raise InputMissing("the recording is no longer in the cache: submit it again")
        self._require_space()

    def fetch(self) -> None:
        if not self.url:
            return
        self.reporter.own_steps = (FETCH, CONVERT)
        if (
            self.folder.input.exists()
        ):  # an earlier attempt has brought it, and may not have been able to say so
            self.keep_books(self.folder.input.stat().st_size)
            return
        from worker.sources.bringing import bring_recording  # noqa: PLC0415  the child's business alone

        self.reporter.step(FETCH)
        fetched = bring_recording(
            self.url,
            self.owner,
            self.folder.input,
            self.tools.settings,
            self.reporter.still_fetching,
            self.reporter.fetching,
            self.tools.cache.require_space,
            patiently(self._room_bytes),
        )
        self.keep_books(fetched.size_bytes)
        log.info("recording_fetched", size_bytes=fetched.size_bytes, resumed_bytes=fetched.resumed_bytes)

    def keep_books(self, size_bytes: int) -> None:
        """Note how large the fetched recording is; patiently, since the owner's limits go by it."""
        fields = self.reporter.received(size_bytes)
        if not patiently(lambda: self.tools.store.report(self.task_id, self.lease, fields)):
            raise Abandoned(MoveOutcome.LOST)

    def run(self) -> Transcript:
        from worker.sources.convert import convert  # noqa: PLC0415  loads PyAV: in the child only

        self.reporter.step(CONVERT)
        recording = convert(
            self.folder.input,
            self.folder.recording(self.lease),
            self._check_conversion,
            max_duration_s=self.tools.settings.max_duration_s,
        )
        choice = self.tools.choose(self.options.engine)
        self.reporter.limit(self.tools.settings.time_limit_s(recording.duration_s))
        checkpoints = FolderCheckpoints(self.folder.checkpoints, {"recording": recording_id(recording.path)})
        try:
            transcript = self._transcribe(choice.name, recording.path, checkpoints)
        except EngineUnavailable as exc:
            raise self.tools.unloadable(choice.name, exc) from exc
        warnings = recording.warnings + transcript.warnings
        return replace(transcript, warnings=warnings, engine_reason=choice.reason)

    def _transcribe(self, engine_name: str, recording: Path, checkpoints: Checkpoints) -> Transcript:
        engine = self.tools.engine(engine_name)
        return with_room(
            engine,
            self.tools.settings.on_gpu_oom,
            lambda: engine.transcribe(
                recording,
                engine_options(self.options),
                self.reporter.from_engine,
                self.reporter.check,
                checkpoints,
            ),
            lambda: self.tools.discard_engine(engine_name),
        )

    def settle(self, transcript: Transcript) -> None:
        self.reporter.steps.leave()
        content = to_document(self.task_id, transcript).model_dump_json().encode()
        result = self.folder.result(self.lease)
        try:
            write_durably(result, content)
        except FileNotFoundError as exc:  # the job was released meanwhile, folder and all
            raise Abandoned("gone") from exc
        self.fields = result_fields(result.name, len(content), transcript)

    def deliver(self) -> None:
        """Bring the result to the client's bucket; where that fails for good it stays, with a warning."""
        if self.claimed is None or not self.claimed.s3_path:
            return
        from worker.delivery.handover import hand_over  # noqa: PLC0415  loads boto3

        self.keep()
        bucket = bucket_of(self.tools.settings)
        try:
            urls = hand_over(self.claimed, self.folder.path / self.fields["result"], bucket, self._wait)
        except Exception as exc:
            error = as_job_error(exc, self.reporter.current_step)
            if error.retryable and self.number < self.tools.settings.max_attempts:
                raise
            log.warning("result_not_delivered", code=error.code, reason=error.message)
            self.fields["warnings"] = [*self.fields["warnings"], not_delivered(error)]
        else:
            self.fields |= {"result": "", "stored_bytes": 0, "s3_urls": urls}

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

    def wait_again(self) -> None:
        """Let the job wait for another attempt; Celery's retry makes the new entry."""
        record = patiently(lambda: self.tools.store.get(self.task_id))
        if record is None or record.lease != self.lease:
            raise Abandoned(MoveOutcome.LOST)
        outcome = patiently(lambda: self.tools.store.wait_again(record, fence=Fence.HOLD))
        if outcome is not MoveOutcome.MOVED and not self._said_before(state=JobState.WAITING):
            raise Abandoned(outcome)

    def _drop_own_result(self) -> None:
        """Remove this attempt's result, unless it is the job's: another attempt may be delivering it."""
        result = self.folder.result(self.lease)
        record = patiently(lambda: self.tools.store.get(self.task_id))
        if record is None or record.result != result.name:
            result.unlink(missing_ok=True)

    def _wait(self, seconds: float) -> None:
        """Between two tries of an upload."""
        time.sleep(seconds)
        self.reporter.check()

    def _room_bytes(self) -> int | None:
        books, settings = OwnerBooks(self.tools.client), self.tools.settings
        return books.room_bytes(self.owner, settings.max_stored_bytes_per_key)

    def _check_conversion(self) -> None:
        self.reporter.step(CONVERT)
        self._require_space()

    def _require_space(self) -> None:
        try:
            self.tools.cache.require_space()
        except DiskFull as exc:
            raise Interrupted("the cache's disk is full") from exc

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


def publish(app: Celery, task_id: str, priority: Priority, **options: Any) -> None:
    """Add the job's entry to the stream; ``register`` has what takes it. ``options`` are Celery's."""
    app.send_task(
        TRANSCRIBE_TASK,
        task_id=task_id,
        queue=TRANSCRIBE_QUEUE,
        priority=CELERY_PRIORITY[priority],
        **options,
    )


def tools_of(app: Celery) -> Tools:
    """What the application's transcribe task works with."""
    tools: Tools = app.tasks[TRANSCRIBE_TASK].tools
    return tools


def register(app: Celery, settings: Settings) -> None:
    """Add the transcribe task to the application. It takes no arguments: its id is the job's."""
    tools = Tools(app, settings)

    # "throws": a failed job is news for its client, not a crash to be logged with a traceback. Not shared:
    # Celery would register it with every other application in this process.
    @app.task(
        name=TRANSCRIBE_TASK, bind=True, max_retries=None, throws=(JobError,), shared=False, tools=tools
    )
    def transcribe(self: Task) -> dict[str, Any]:
        with bound_contextvars(task_id=self.request.id, attempt=self.request.attempt + self.request.retries):
            return attempt_job(self, Attempt(tools, self), settings.max_attempts)


def attempt_job(task: Task, attempt: Attempt, max_attempts: int) -> dict[str, Any]:
    """Carry the attempt out and turn its end into Celery's words."""
    started = time.monotonic()
    outcome = "failed"
    try:
        result = attempt.carry_out()
        outcome = "completed"
    except Settled as exc:
        outcome = "settled_before"
        return repeat_end(attempt, exc.record)
    except Abandoned as exc:
        outcome = f"abandoned_{exc}"
        if exc.args[0] is MoveOutcome.NEWER:
            park(task, attempt)
        leave(attempt, exc)
    except Exception as exc:  # noqa: BLE001  a job's border: whatever went wrong becomes its one error
        error = as_job_error(exc, attempt.reporter.current_step)
        outcome = error.code
        attempt.tools.note_error(error)
        end_with(task, attempt, error, max_attempts)
    finally:
        attempt.reporter.steps.leave(None if outcome in WELL else outcome)
        attempt.span.end(error=None if outcome in WELL else outcome, outcome=outcome)
        seconds = round(time.monotonic() - started, 3)
        log.info("attempt_finished", outcome=outcome, step=attempt.reporter.current_step, seconds=seconds)
    return result


def end_with(task: Task, attempt: Attempt, error: JobError, max_attempts: int) -> NoReturn:
    """Fail the job, or let it wait for another attempt where one can help.

    Where neither can be recorded, the entry goes back: Celery must not store an end the record lacks.
    """
    try:
        record_end(task, attempt, error, max_attempts)
    except Abandoned as exc:
        leave(attempt, exc)
    except (Retry, Ignore):
        raise
    except Exception as exc:  # Celery's Reject among them: its retry could not publish
        log.exception("end_not_recorded")
        raise Reject(exc, requeue=True) from exc
    raise error


def record_end(task: Task, attempt: Attempt, error: JobError, max_attempts: int) -> None:
    if error.retryable and attempt.number < max_attempts:
        attempt.wait_again()
        asked_s = min(error.retry_after_s or 0, RETRY_MAX_S)  # by the server of a URL
        raise task.retry(exc=error, countdown=max(retry_delay_s(attempt.number), asked_s))
    attempt.fail(error)


def leave(attempt: Attempt, reason: Abandoned) -> NoReturn:
    """End without a word: the job is another attempt's, or nobody's any more.

    Of a released job Celery may just have stored that it started, or its progress; that goes too.
    """
    if patiently(lambda: attempt.tools.store.get(attempt.task_id)) is None:
        patiently(lambda: attempt.tools.forget(attempt.task_id))
    raise Ignore from reason


def park(task: Task, attempt: Attempt) -> NoReturn:
    """Put back a job that only a newer release can do, uncounted and untouched.

    Its new entry comes in PARK_S: the jobs behind it run meanwhile, and the next reader may be newer.
    """
    try:
        record = patiently(lambda: attempt.tools.store.get(attempt.task_id))
        if record is not None:
            log.error("job_of_newer_format", format=record.format, known_format=FORMAT, again_in_s=PARK_S)
            publish(task.app, record.id, record.priority, countdown=PARK_S, retries=attempt.number - 1)
        patiently(lambda: attempt.tools.forget(attempt.task_id))  # that it started
    except Exception as exc:
        log.exception("job_not_parked")
        raise Reject(exc, requeue=True) from exc
    raise Ignore


def as_job_error(exc: Exception, step: str) -> JobError:
    """Any failure as an error that its reader can act on; unforeseen ones keep their text in the log."""
    if isinstance(exc, JobError):
        return exc
    log.error("attempt_crashed", step=step, exc_info=exc)
    if is_away(exc) or isinstance(exc, MemoryError) or (isinstance(exc, OSError) and exc.errno in _PASSING):
        error: JobError = Interrupted(f"step {step or 'load'}: {type(exc).__name__}")
    elif is_cuda_error(exc):
        error = GpuFault(f"step {step or 'load'}: the GPU failed")
    else:
        error = EngineFailed(f"step {step or 'load'} failed unexpectedly: {type(exc).__name__}")
    error.__cause__ = exc
    return error


def retry_delay_s(attempt_number: int) -> float:
    """Seconds before the next attempt: 5, 10, 20, ... up to 5 minutes, give or take a quarter.

    The jitter parts jobs that failed together, for example when the disk filled up.
    """
    delay_s: float = min(RETRY_BASE_S * 2 ** (attempt_number - 1), RETRY_MAX_S)
    return delay_s * random.uniform(0.75, 1.25)  # noqa: S311  no secret  # nosec B311


def repeat_end(attempt: Attempt, record: JobRecord) -> dict[str, Any]:
    """Answer a redelivery of a job that has ended: a crash came between the commit and Celery's answer."""
    completed = record.state is JobState.COMPLETED
    attempt.tidy_up(record.result if completed else attempt.folder.input.name)
    if completed:
        return summary(record.id, record.result)
    if record.error_code == Cancelled.code:
        attempt.tools.mark_cancelled(record.id)  # Celery has just put STARTED over it
        raise Ignore
    raise JobError(f"{record.error_code}: {record.error_message}")


def result_fields(name: str, size_bytes: int, transcript: Transcript) -> dict[str, Any]:
    """What a job's record says of its result in the file ``name``."""
    return {
        "result": name,
        "stored_bytes": size_bytes,  # all that is kept: tidy_up removes the rest
        "engine": transcript.engine,
        "model": transcript.model,
        "duration_s": transcript.duration_s,
        "warnings": [asdict(warning) for warning in transcript.warnings],
        "partial": transcript.partial,
        "fraction": 1.0,
        "url": "",  # it may hold credentials, and nobody needs it any more
    }


def engine_options(options: JobOptions) -> Options:
    """What the engine is told: all but the choice of the engine itself."""
    return Options(**options.model_dump(exclude={"engine"}))


def summary(task_id: str, result: str) -> dict[str, Any]:
    """What Celery's result backend keeps: enough for a monitor, nothing that was said."""
    return {"task_id": task_id, "result": result}
