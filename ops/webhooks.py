"""Sends webhooks, in threads of their own beside the sweeper: a receiver that hangs must not hold up a sweep.

Several threads, so that a batch with slow receivers holds up one of them only. They need no goodbye: what a
process that ends was sending is claimed for a while, and then sent again.
"""

from __future__ import annotations

import time
from threading import Event, Thread
from typing import TYPE_CHECKING

from worker.delivery.posting import GuardedPost
from worker.delivery.signing import signing_keys
from worker.delivery.webhook import AT_ONCE, Deliverer
from worker.delivery.webhook_store import WebhookStore
from worker.logs import get_logger
from worker.patience import AWAY
from worker.resources import create_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.settings import Settings

log = get_logger(__name__)

THREADS = 4
LOOK_EVERY_S = 1.0
AFTER_FAULT_S = 5.0


def start_webhooks(settings: Settings) -> list[Thread]:
    """Start delivering, where webhooks can be signed. The threads end with the process."""
    if settings.webhook_secret is None:
        return []
    never = Event()
    deliver = create_deliverer(settings).deliver_due
    threads = [
        Thread(target=deliver_until, args=(never, deliver), name=f"webhooks-{number}", daemon=True)
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    return threads


def create_deliverer(settings: Settings) -> Deliverer:
    return Deliverer(
        WebhookStore(create_client(settings)),
        signing_keys(settings.webhook_secret),
        GuardedPost(settings.url_policy),
        timeout_s=settings.webhook_timeout_s,
    )


def deliver_until(stopped: Event, deliver_due: Callable[[float], int]) -> None:
    pause_s = 0.0
    while not stopped.wait(pause_s):
        try:
            pause_s = 0.0 if deliver_due(time.time()) >= AT_ONCE else LOOK_EVERY_S
        except AWAY as exc:
            log.warning("webhooks_held_up", error=type(exc).__name__)
            pause_s = AFTER_FAULT_S
        except Exception:
            log.exception("webhooks_broke_off")
            pause_s = AFTER_FAULT_S
