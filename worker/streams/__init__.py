"""Celery over Redis Streams: jobs that survive their worker, and run once however long they take.

A kombu transport that knows nothing of its application: ``broker_url(...)`` works for any Celery app.
Entries are leased to the worker that reads them; a lease that is not renewed goes to another worker, and
the one that lost it can neither acknowledge nor go on. docs/streams.md has guarantees and options.
"""

from worker.streams.counting import (
    QueueStats,
    drop_tasks,
    entry_count,
    lease_losses,
    scan_task_ids,
    stats,
)
from worker.streams.dead import (
    DeadEntry,
    drop_dead,
    list_dead,
    mark_handled,
    replay_dead,
    unhandled_dead,
)
from worker.streams.hooks import set_gate
from worker.streams.keys import GROUP, REAPER_GROUP, QueueKeys
from worker.streams.leases import lease_held
from worker.streams.options import Options, recommended_settings
from worker.streams.sweeping import Reclaimed, sweep
from worker.streams.transport import SCHEME, TLS_SCHEME, broker_url, register
from worker.streams.worker_steps import install

__all__ = [
    "GROUP",
    "REAPER_GROUP",
    "SCHEME",
    "TLS_SCHEME",
    "DeadEntry",
    "Options",
    "QueueKeys",
    "QueueStats",
    "Reclaimed",
    "broker_url",
    "drop_dead",
    "drop_tasks",
    "entry_count",
    "install",
    "lease_held",
    "lease_losses",
    "list_dead",
    "mark_handled",
    "recommended_settings",
    "register",
    "replay_dead",
    "scan_task_ids",
    "set_gate",
    "stats",
    "sweep",
    "unhandled_dead",
]
