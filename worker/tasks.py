"""The transcribe task: its entry in the stream, its place in Celery, and what Celery is told of an attempt.

Owns the names that the stream and Celery know the task by. The attempt itself is worker/attempt.py's; what
becomes of a job whose attempt did not end it, worker/outcomes.py's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

from celery.exceptions import Ignore, Reject
from structlog.contextvars import bound_contextvars

from worker.attempt import Attempt
from worker.claim import Settled
from worker.errors import JobError
from worker.jobs import MoveOutcome, Priority
from worker.jobs.record import FORMAT
from worker.logs import get_logger
from worker.outcomes import as_job_error, end_with, leave, repeat_end
from worker.patience import patiently
from worker.progress import Abandoned
from worker.tools import Tools

if TYPE_CHECKING:
    from celery import Celery, Task

    from worker.settings import Settings

log = get_logger(__name__)

TRANSCRIBE_QUEUE = "transcribe"
TRANSCRIBE_TASK = "transcribe"
# Celery's numbers for the transport's levels (worker/streams/levels.py).
CELERY_PRIORITY = {Priority.HIGH: 8, Priority.NORMAL: 5, Priority.LOW: 2}
WELL = frozenset({"completed", "settled_before"})  # outcomes of an attempt
PARK_S = 15  # until an entry that only a newer release can do comes again


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
