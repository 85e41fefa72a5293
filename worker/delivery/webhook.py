"""Sends the webhooks that are due, a bounded number at the same time, and writes down what came of each.

Knows neither HTTP nor addresses: ``post`` does. For a thread or process of its own: a receiver that hangs
holds ``deliver_due`` for its whole time limit.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.delivery.signing import signed_headers
from worker.delivery.webhook_rules import DeliveryState, Outcome, next_step, webhook_id
from worker.delivery.webhook_store import Try
from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.delivery.webhook_rules import Step
    from worker.delivery.webhook_store import Claim, WebhookStore

log = get_logger(__name__)

AT_ONCE = 32
_LEASE_BEYOND_TIMEOUT_S = 20.0  # to write down what came of a try; clocks differ, too


@dataclass(frozen=True)
class Webhook:
    """One try, ready to be sent. Its repr holds no URL and no signature."""

    url: str
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Webhook({self.headers.get('webhook-id')!r})"


# Sends a POST, follows no redirect, and tells what came of it; errors of the network are outcomes.
Post = Callable[[Webhook], Awaitable[Outcome]]


class Deliverer:
    """Args:
    keys: What every webhook is signed with; at least one (see signing.signing_key).
    chance: A random number from 0 to 1, for the waits.
    """

    def __init__(
        self,
        store: WebhookStore,
        keys: Sequence[bytes],
        post: Post,
        *,
        timeout_s: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._keys = tuple(keys)
        self._post = post
        self._timeout_s = timeout_s
        self.lease_s = timeout_s + _LEASE_BEYOND_TIMEOUT_S
        self._chance = chance

    def deliver_due(self, now: float) -> int:
        """Make one try at each delivery that is due at ``now``, at most AT_ONCE of them; how many.

        Several processes may do this at once. Raises redis.RedisError; what was claimed is tried again.
        """
        claims = self._store.claim_due(now, lease_s=self.lease_s, most=AT_ONCE)
        if claims:
            asyncio.run(self._try_all(claims, now))
        return len(claims)

    async def _try_all(self, claims: list[Claim], now: float) -> None:
        tries = (self._try(claim, now) for claim in claims)
        faults = await asyncio.gather(*tries, return_exceptions=True)
        for fault in filter(None, faults):
            raise fault

    async def _try(self, claim: Claim, now: float) -> None:
        started = time.monotonic()
        outcome = await self._outcome(self._signed(claim, now))
        took_s = time.monotonic() - started
        done = Try(round(now + took_s, 3), outcome.status, outcome.error, round(took_s * 1000))
        step = next_step(outcome, claim.tries, done.at, self._chance())
        kept = self._store.settle(claim, done, step)
        _log_try(claim, done, step, kept=kept)

    async def _outcome(self, webhook: Webhook) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(webhook)
        except TimeoutError:
            return Outcome(error="timeout")
        except Exception:
            # The border of one delivery: a fault of ours in it must not hold up the others.
            log.exception("webhook_post_broke", webhook_id=webhook.headers["webhook-id"])
            return Outcome(error="internal")

    def _signed(self, claim: Claim, now: float) -> Webhook:
        body = claim.body.encode()
        headers = signed_headers(self._keys, webhook_id(claim.body), int(now), body)
        return Webhook(claim.url, {"content-type": "application/json", **headers}, body)


def _log_try(claim: Claim, done: Try, step: Step, *, kept: bool) -> None:
    write = log.info if step.state is DeliveryState.DELIVERED else log.warning
    write(
        "webhook_tried",
        task_id=claim.task_id,
        event_type=claim.event.value,
        attempt=claim.tries,
        status=done.status,
        error=done.error,
        ms=done.ms,
        state=step.state.value,
        wait_s=round(step.wait_s),
        kept=kept,
    )
