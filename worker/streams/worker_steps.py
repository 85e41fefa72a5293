"""What the transport needs from a Celery worker: to be told how to stop an attempt whose lease is lost."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Any

from celery import bootsteps

from worker.streams import results
from worker.streams.hooks import hooks
from worker.streams.requests import all_requests
from worker.streams.transport import register

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)


class FenceStep(bootsteps.StartStopStep):
    """Arms the fence at each start of the consumer, so also after a reconnect."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        from worker.streams import due, worker_requests  # noqa: PLC0415  publishers must not load Celery's worker

        worker_requests.use_for(parent.app)  # all steps are made before the first, so Tasks, starts
        due.ask_when_due(parent)

    def start(self, parent: Any) -> None:
        hooks.stop_attempt = Fence(parent.pool).stop_attempt


class Fence:
    """Stops attempts whose job has gone to another worker, before they can write.

    Called by the lease keeper's thread, not by Celery's event loop: that may be standing still. So it only
    kills and marks; the event loop finds the child dead and the request cancelled, and says nothing more.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def stop_attempt(self, lease_id: str) -> bool:
        """Whether nothing of this delivery can run any more; otherwise call again."""
        mine = [request for request in all_requests() if request.message.delivery_tag == lease_id]
        return not [request for request in mine if not self._stop(request)]  # every one is stopped

    def _stop(self, request: Any) -> bool:
        request._already_revoked = True  # noqa: SLF001  it isn't started, if it waits for its time or a child
        job = request._apply_result and request._apply_result()  # noqa: SLF001  a weak reference
        if job is None:
            return True
        if not hasattr(job, "terminate"):
            log.error("%s[%s] lost its lease, but a thread can't be stopped", request.name, request.id)
            return True
        request._already_cancelled = True  # noqa: SLF001  its end is no news: no result, no acknowledgement
        if request.worker_pid is None:  # on its way to a child
            return False
        log.error("killing the attempt of %s[%s]: its lease was lost", request.name, request.id)
        job.terminate(signal.SIGKILL)
        self._pool.terminate_job(request.worker_pid, signal.SIGKILL)
        return True


def install(app: Celery) -> None:
    """Prepare an application for the transport. Safe to repeat."""
    register()
    app.steps["consumer"].add(FenceStep)
    results.use_for(app)
