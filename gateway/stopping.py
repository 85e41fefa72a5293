"""Stopping an attempt at a job, and knowing that it has stopped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.logs import get_logger
from worker.streams import lease_held

if TYPE_CHECKING:
    from gateway.services import Services
    from worker.jobs import JobRecord

log = get_logger(__name__)

STOP_WITHIN_S = 5.0
ASK_EVERY_S = 0.05


def is_stopped(services: Services, record: JobRecord, *, kill: bool) -> bool:
    """Whether nobody works on the job any more; waits up to STOP_WITHIN_S for it.

    Also of a job that has ended: its worker has yet to tell Celery, and would do so after we had forgotten.

    Args:
        record: As it was, or is; its lease counts.
        kill: Tell the worker to kill its child. Where that can't be sent, the worker's own guard does it.
    """
    try:
        if not record.lease or not lease_held(services.client, record.lease):
            return True
        if kill:
            services.dispatch.kill(record.id)
        return let_go(services, record.lease)
    except Exception as exc:  # noqa: BLE001  the job has ended: no error may stop its files from going
        log.warning("stop_not_confirmed", task_id=record.id, error=type(exc).__name__)
        return False


def let_go(services: Services, lease: str) -> bool:
    """Wait until nobody holds the lease, for STOP_WITHIN_S at most."""
    deadline = time.monotonic() + STOP_WITHIN_S
    while lease_held(services.client, lease):
        if time.monotonic() > deadline:
            return False
        time.sleep(ASK_EVERY_S)
    return True
