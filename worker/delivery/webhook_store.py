"""Pending webhook deliveries in Redis: each is kept until it was delivered or given up, so none is lost.

A job's move to its end writes the delivery, and its removal drops it (worker/jobs/scripts); here it is tried.

A delivery is claimed for one try with a lease. A sweeper that dies between sending and settling leaves the
claim to run out, and the webhook is sent again: at least once, and never twice at the same time. Times are
Unix seconds by the clock of the process that writes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from worker.delivery.webhook_rules import DeliveryState, Event, webhook_body
from worker.jobs.keys import WEBHOOKS_DUE, webhook_key

if TYPE_CHECKING:
    import redis

    from worker.delivery.webhook_rules import Step

LOGGED_TRIES = 10
_FOLDER = Path(__file__).with_name("lua")


@dataclass(frozen=True)
class Try:
    """One try as the delivery log keeps it: ``status`` of the answer, or else the kind of ``error``."""

    at: float
    status: int | None
    error: str
    ms: int


@dataclass(frozen=True)
class Claim:
    """A delivery, held for one try. ``tries`` is that try's number and what tells this claim from a later."""

    task_id: str
    event: Event
    url: str
    body: str
    tries: int
    log: tuple[Try, ...]


@dataclass(frozen=True)
class Delivery:
    """What a reader of a job's status may know. ``next_at``: of the next try, where it is pending."""

    event: Event
    state: DeliveryState
    tries: int
    next_at: float | None
    log: tuple[Try, ...]


class WebhookStore:
    """The deliveries of one Redis server. ``client``: with ``decode_responses=True``; threads share it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def claim_due(self, now: float, *, lease_s: float, most: int) -> list[Claim]:
        """Claim deliveries that are due, the longest due first; none that another holds."""
        found = cast(
            "list[str]",
            self._client.zrange(WEBHOOKS_DUE, "-inf", cast("Any", now), byscore=True, offset=0, num=most),
        )
        claims = (self._claim(member, now, now + lease_s) for member in found)
        return [claim for claim in claims if claim]

    def settle(self, claim: Claim, done: Try, step: Step) -> bool:
        """Write what the claimed try came to; False where the claim has run out and another has it."""
        member = _member(claim.task_id, claim.event)
        log = json.dumps([asdict(one) for one in (*claim.log, done)[-LOGGED_TRIES:]])
        due_at: float | str = done.at + step.wait_s if step.state is DeliveryState.PENDING else ""
        args: list[Any] = [member, claim.tries, step.state.value, log, due_at]
        return bool(self._client.eval(_script("settle"), 2, WEBHOOKS_DUE, _key(member), *args))

    def read(self, task_id: str) -> list[Delivery]:
        """The job's deliveries, for its status; without the URL, which may hold a key."""
        members = {event: _member(task_id, event) for event in Event}
        pipe = self._client.pipeline(transaction=False)
        for member in members.values():
            pipe.hgetall(_key(member))
            pipe.zscore(WEBHOOKS_DUE, member)
        replies = pipe.execute()
        found = zip(members, replies[::2], replies[1::2], strict=True)
        return [_delivery(event, fields, due) for event, fields, due in found if fields]

    def _claim(self, member: str, now: float, until: float) -> Claim | None:
        args: list[Any] = [member, now, until]
        flat: Any = self._client.eval(_script("claim"), 2, WEBHOOKS_DUE, _key(member), *args)
        return _claimed(member, dict(zip(flat[::2], flat[1::2], strict=True))) if flat else None


def _claimed(member: str, fields: dict[str, str]) -> Claim:
    task_id, _, event = member.rpartition(":")
    body = webhook_body(task_id, Event(event), float(fields["ended_at"]))
    return Claim(task_id, Event(event), fields["url"], body, int(fields["tries"]), _log(fields))


def _delivery(event: Event, fields: dict[str, str], due: float | None) -> Delivery:
    return Delivery(event, DeliveryState(fields["state"]), int(fields["tries"]), due, _log(fields))


def _log(fields: dict[str, str]) -> tuple[Try, ...]:
    return tuple(Try(**one) for one in json.loads(fields["log"]))


def _key(member: str) -> str:
    task_id, _, event = member.rpartition(":")
    return webhook_key(task_id, Event(event).status)


def _member(task_id: str, event: Event) -> str:
    return f"{task_id}:{event}"


@cache
def _script(name: str) -> str:
    """The script without its comments: EVAL sends it each time, and a pipeline has no second try."""
    lines = (_FOLDER / f"{name}.lua").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("--"))
