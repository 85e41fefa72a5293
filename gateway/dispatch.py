"""The gateway's side of Celery: publish a job, read its state, stop it, forget it.

One object for all threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.tasks import publish

if TYPE_CHECKING:
    from celery import Celery

    from worker.jobs import Priority

TIMEOUT_S = 2.0


class Dispatch:
    """Celery, told to answer soon or to raise: a request is waiting.

    Args:
        app: The gateway's own application; its settings are changed.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        options = app.conf.broker_transport_options or {}
        app.conf.update(
            broker_transport_options={
                **options,
                "socket_timeout": TIMEOUT_S,
                "socket_connect_timeout": TIMEOUT_S,
            },
            broker_connection_timeout=TIMEOUT_S,
            # Once more, for a pooled connection that a restart of the server broke. No more than that: the
            # job is accepted already, and the sweeper publishes what is not.
            task_publish_retry=True,
            task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0},
            redis_socket_timeout=TIMEOUT_S,
            redis_socket_connect_timeout=TIMEOUT_S,
            redis_retry_on_timeout=False,
            result_backend_always_retry=False,
            result_backend_thread_safe=True,  # true of what is used here: reads and deletes through a pool
        )
        # Celery would subscribe to each published task's result, for a get() that never comes here: a
        # subscription a job, for ever, on a connection that threads may not share.
        app.backend.on_task_call = _subscribe_to_nothing

    def publish(self, task_id: str, priority: Priority) -> None:
        """Add the job's entry to the stream. Raises whatever the broker's client raises."""
        publish(self._app, task_id, priority)

    def state(self, task_id: str) -> str:
        """Celery's word for the task; PENDING for one it has not heard of."""
        return str(self._app.AsyncResult(task_id).state)

    def kill(self, task_id: str) -> None:
        """Tell all workers to kill the child that runs the task. Answers before they do."""
        self._app.control.revoke(task_id, terminate=True, signal="SIGKILL")

    def mark_cancelled(self, task_id: str) -> None:
        """Let Celery's state say so, too: of a waiting task its workers will never report one."""
        self._app.backend.mark_as_revoked(task_id, reason="cancelled")

    def forget(self, task_id: str) -> None:
        self._app.AsyncResult(task_id).forget()


def _subscribe_to_nothing(_producer: object, _task_id: str) -> None:
    pass
