"""A bounded warm shutdown: what has not finished within DRAIN_S goes back to the queue.

SIGTERM is Celery's warm shutdown: no new job, the running one may finish. Celery waits for that for ever;
its own soft shutdown sleeps its whole time even if the job ends at once. So here a timer turns a warm
shutdown into a cold one (SIGQUIT), which gives the job back to the front, without counting an attempt.
"""

from __future__ import annotations

import os
import signal
import threading

from celery.signals import worker_shutting_down

from worker.logs import get_logger

log = get_logger(__name__)


def limit_drain(drain_s: float) -> None:
    """Arm this process: from a warm shutdown on, its running job has ``drain_s`` to finish."""

    def begin(how: str, **_: object) -> None:
        log.info("worker_draining", how=how, drain_s=drain_s)
        if how == "Warm":
            timer = threading.Timer(drain_s, _give_up)
            timer.daemon = True  # a job that ends in time ends the process
            timer.start()

    worker_shutting_down.connect(begin, weak=False)


def _give_up() -> None:
    log.warning("drain_ended", remedy="the running job goes back to the queue")
    os.kill(os.getpid(), signal.SIGQUIT)
