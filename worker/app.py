"""The Celery application: one for the gateway, the workers, the sweeper and Flower.

Creating it connects to nothing and loads no engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery import Celery

from worker import streams, tasks
from worker.tasks import TRANSCRIBE_QUEUE

if TYPE_CHECKING:
    from worker.settings import Settings

MAINTENANCE_QUEUE = "maintenance"
__all__ = ["MAINTENANCE_QUEUE", "TRANSCRIBE_QUEUE", "create_app"]

_DAY_S = 86_400


def create_app(settings: Settings) -> Celery:
    """The application with its transport, result backend and the transcribe task."""
    url = settings.redis_url.get_secret_value()
    app = Celery("transcription", broker=streams.broker_url(url), backend=url)
    app.conf.update(
        **streams.recommended_settings(),
        broker_transport_options={"lease_s": settings.lease_s, "max_attempts": settings.max_attempts},
        task_default_queue=TRANSCRIBE_QUEUE,
        task_create_missing_queues=True,
        # A result outlives its job's record: the record decides what is shown, and takes the result with it.
        result_expires=settings.cache_expiry + _DAY_S,
        # A child loads its engine before it says that it is there.
        worker_proc_alive_timeout=settings.stall_s,
        worker_max_tasks_per_child=settings.recycle_after_jobs or None,
        worker_max_memory_per_child=settings.recycle_above_mib * 1024 or None,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        timezone="UTC",
    )
    streams.install(app)
    tasks.register(app, settings)
    return app
