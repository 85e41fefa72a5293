"""A sweeper that is killed when a webhook has been sent and its outcome is not yet written.

python -m tests.delivery.dying_sweeper REDIS_URL NOW
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import redis

from worker.delivery.posting import GuardedPost
from worker.delivery.webhook import Deliverer, Webhook
from worker.delivery.webhook_store import WebhookStore
from worker.sources.addresses import AddressPolicy

if TYPE_CHECKING:
    from worker.delivery.webhook_rules import Outcome

DYING_TIMEOUT_S = 10.0
_post = GuardedPost(AddressPolicy(allow_private=True))


async def _post_and_die(webhook: Webhook) -> Outcome:
    await _post(webhook)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


if __name__ == "__main__":
    store = WebhookStore(redis.Redis.from_url(sys.argv[1], decode_responses=True))
    Deliverer(store, [b"k" * 24], _post_and_die, timeout_s=DYING_TIMEOUT_S).deliver_due(float(sys.argv[2]))
