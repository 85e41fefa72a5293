"""The sweeper: Celery beat and a small worker of its own, in one process; beside them, webhooks are sent.

GPU workers are busy for hours, so maintenance has its own queue. Two sweepers are harmless: every
repair looks before it changes, and a repair that came too late finds nothing to do.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

from celery.beat import EmbeddedService
from celery.signals import setup_logging, worker_ready

from ops.maintenance import GAUGES_KEY, GAUGES_TTL_S, Keeper
from ops.webhooks import start_webhooks
from worker.app import MAINTENANCE_QUEUE, create_app
from worker.cache import require_own_cache
from worker.logs import configure_logging
from worker.patience import AWAY, patiently
from worker.resources import create_cache, create_client

if TYPE_CHECKING:
    from celery import Celery

    from worker.settings import Settings

SWEEP_TASK = "sweep"
REPAIR_TASK = "repair"


def create_sweeper_app(settings: Settings) -> Celery:
    """The service's application with the maintenance tasks and their schedule."""
    app = create_app(settings)
    app.conf.task_track_started = False
    app.conf.task_send_sent_event = (
        False  # nor the others: 20,000 sweeps a day would crowd jobs out of Flower
    )
    app.conf.beat_schedule = {
        SWEEP_TASK: _every(settings.sweep_s, SWEEP_TASK),
        REPAIR_TASK: _every(settings.repair_s, REPAIR_TASK),
    }
    keeper = Keeper.create(app, settings)

    @app.task(name=SWEEP_TASK, ignore_result=True, shared=False, send_events=False)
    def sweep() -> None:
        keeper.sweep()

    @app.task(name=REPAIR_TASK, ignore_result=True, shared=False, send_events=False)
    def repair() -> None:
        keeper.repair()

    return app


def run_sweeper(settings: Settings) -> int:
    name = f"sweeper-{os.getpid()}@{socket.gethostname()}"
    configure_logging(settings, name)
    setup_logging.connect(lambda **_: None, weak=False)
    app = create_sweeper_app(settings)
    client = create_client(settings)
    patiently(lambda: require_own_cache(client, create_cache(settings)))
    worker_ready.connect(lambda **_: _start_beat(app), weak=False)
    start_webhooks(settings)
    # The solo pool: the tasks take milliseconds, and no child means nothing to respawn.
    worker = app.Worker(hostname=name, pool="solo", queues=[MAINTENANCE_QUEUE], quiet=True)
    worker.start()
    return int(worker.exitcode or 0)


def check_sweeper(settings: Settings) -> int:
    """0 where some sweeper has swept within GAUGES_TTL_S, 1 where not; for a container's health check."""
    try:
        has_swept = bool(create_client(settings, timeout_s=5.0).exists(GAUGES_KEY))
    except AWAY:
        sys.stderr.write("error: Redis does not answer: see REDIS_URL\n")
        return 1
    if not has_swept:
        sys.stderr.write(f"error: no sweep in the last {GAUGES_TTL_S} s\n")
    return 0 if has_swept else 1


def _every(seconds: float, task: str) -> dict[str, object]:
    # A message that waited longer than its interval is dropped: after an outage one sweep is enough.
    options = {"queue": MAINTENANCE_QUEUE, "expires": seconds}
    return {"task": task, "schedule": seconds, "options": options}


def _start_beat(app: Celery) -> None:
    # In a thread, so that it ends with this process however that dies; the plain scheduler, because
    # fixed intervals need no file to remember them.
    EmbeddedService(app, thread=True, scheduler_cls="celery.beat:Scheduler").start()
