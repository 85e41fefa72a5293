"""What becomes of a job whose attempt brought no result: it fails, waits for another, or is left alone.

Owns the one error that any failure becomes, when the next attempt comes, and the answer to a delivery of a
job that has ended. Says it in Celery's words: Retry, Ignore, Reject, or the error itself. It must not know
what an attempt does, only its claim on the job (worker/claim.py).
"""

from __future__ import annotations

import errno
import random
from typing import TYPE_CHECKING, Any, NoReturn

from celery.exceptions import Ignore, Reject, Retry

from worker.claim import summary
from worker.engines.oom import is_cuda_error
from worker.errors import Cancelled, EngineFailed, GpuFault, Interrupted, JobError
from worker.jobs import JobRecord, JobState
from worker.logs import get_logger
from worker.patience import is_away, patiently
from worker.progress import Abandoned

if TYPE_CHECKING:
    from celery import Task

    from worker.claim import Claim

log = get_logger(__name__)

RETRY_BASE_S = 5
RETRY_MAX_S = 300
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE})


def end_with(task: Task, attempt: Claim, error: JobError, max_attempts: int) -> NoReturn:
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


def record_end(task: Task, attempt: Claim, error: JobError, max_attempts: int) -> None:
    if error.retryable and attempt.number < max_attempts:
        attempt.wait_again()
        asked_s = min(error.retry_after_s or 0, RETRY_MAX_S)  # by the server of a URL
        raise task.retry(exc=error, countdown=max(retry_delay_s(attempt.number), asked_s))
    attempt.fail(error)


def leave(attempt: Claim, reason: Abandoned) -> NoReturn:
    """End without a word: the job is another attempt's, or nobody's any more.

    Of a released job Celery may just have stored that it started, or its progress; that goes too.
    """
    if patiently(lambda: attempt.tools.store.get(attempt.task_id)) is None:
        patiently(lambda: attempt.tools.forget(attempt.task_id))
    raise Ignore from reason


def repeat_end(attempt: Claim, record: JobRecord) -> dict[str, Any]:
    """Answer a redelivery of a job that has ended: a crash came between the commit and Celery's answer."""
    completed = record.state is JobState.COMPLETED
    attempt.tidy_up(record.result if completed else attempt.folder.input.name)
    if completed:
        return summary(record.id, record.result)
    if record.error_code == Cancelled.code:
        attempt.tools.mark_cancelled(record.id)  # Celery has just put STARTED over it
        raise Ignore
    raise JobError(f"{record.error_code}: {record.error_message}")


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
