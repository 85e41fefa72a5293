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


def stop(services: Services, record: JobRecord) -> bool:
    """Kill the attempt; True once its worker has let go of the lease.

    Where the kill can't be sent, the attempt stops by itself: its next report finds no record.
    """
    try:
        services.dispatch.kill(record.id)
        return let_go(services, record.lease)
    except Exception as exc:  # noqa: BLE001  the record is gone: no error may stop the files from going
        log.warning("kill_not_sent", task_id=record.id, error=type(exc).__name__)
        return False


def let_go(services: Services, lease: str) -> bool:
    """Wait until nobody holds the lease, for STOP_WITHIN_S at most."""
    deadline = time.monotonic() + STOP_WITHIN_S
    while lease_held(services.client, lease):
        if time.monotonic() > deadline:
            return False
        time.sleep(ASK_EVERY_S)
    return True
