"""Pending webhook deliveries in Redis: each is kept until it was delivered or given up, so none is lost.

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

from worker.delivery.keys import DUE, delivery_key
from worker.delivery.webhook_rules import DeliveryState, Event, webhook_body
from worker.jobs.keys import job_key

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


def enqueue(
    client: redis.Redis, task_id: str, event: Event, url: str, *, ended_at: float, life_s: int
) -> Any:
    """Write a delivery that is due at once, if the job's record is in the state that ``event`` tells of.

    Idempotent for a task id and event. ``client`` may be a pipeline: after the job's move in the same
    transaction, there is no moment in which the job has ended and its webhook is not pending. ``url`` is
    checked; ``life_s``, at least two days, is how long the delivery is kept after its last change.
    """
    member = _member(task_id, event)
    fields = {
        "state": DeliveryState.PENDING.value,
        "tries": 0,
        "url": url,
        "body": webhook_body(task_id, event, ended_at),
        "log": "[]",
    }
    flat = [part for field in fields.items() for part in field]
    args: list[Any] = [member, event.status, ended_at, life_s, *flat]
    return client.eval(_script("enqueue"), 3, delivery_key(member), DUE, job_key(task_id), *args)


def forget(client: redis.Redis, task_id: str) -> None:
    """Drop the job's deliveries, whatever their state. ``client`` may be a pipeline."""
    members = [_member(task_id, event) for event in Event]
    client.zrem(DUE, *members)
    client.delete(*map(delivery_key, members))


class WebhookStore:
    """The deliveries of one Redis server. ``client``: with ``decode_responses=True``; threads share it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def claim_due(self, now: float, *, lease_s: float, most: int) -> list[Claim]:
        """Claim deliveries that are due, the longest due first; none that another holds."""
        found = cast(
            "list[str]", self._client.zrange(DUE, "-inf", cast("Any", now), byscore=True, offset=0, num=most)
        )
        claims = (self._claim(member, now, now + lease_s) for member in found)
        return [claim for claim in claims if claim]

    def settle(self, claim: Claim, done: Try, step: Step) -> bool:
        """Write what the claimed try came to; False where the claim has run out and another has it."""
        member = _member(claim.task_id, claim.event)
        log = json.dumps([asdict(one) for one in (*claim.log, done)[-LOGGED_TRIES:]])
        due_at: float | str = done.at + step.wait_s if step.state is DeliveryState.PENDING else ""
        args: list[Any] = [member, claim.tries, step.state.value, log, due_at]
        return bool(self._client.eval(_script("settle"), 2, DUE, delivery_key(member), *args))

    def read(self, task_id: str) -> list[Delivery]:
        """The job's deliveries, for its status; without the URL, which may hold a key."""
        members = {event: _member(task_id, event) for event in Event}
        pipe = self._client.pipeline(transaction=False)
        for member in members.values():
            pipe.hgetall(delivery_key(member))
            pipe.zscore(DUE, member)
        replies = pipe.execute()
        found = zip(members, replies[::2], replies[1::2], strict=True)
        return [_delivery(event, fields, due) for event, fields, due in found if fields]

    def _claim(self, member: str, now: float, until: float) -> Claim | None:
        args: list[Any] = [member, now, until]
        flat: Any = self._client.eval(_script("claim"), 2, DUE, delivery_key(member), *args)
        return _claimed(member, dict(zip(flat[::2], flat[1::2], strict=True))) if flat else None


def _claimed(member: str, fields: dict[str, str]) -> Claim:
    task_id, _, event = member.rpartition(":")
    tries, log = int(fields["tries"]), _log(fields)
    return Claim(task_id, Event(event), fields["url"], fields["body"], tries, log)


def _delivery(event: Event, fields: dict[str, str], due: float | None) -> Delivery:
    return Delivery(event, DeliveryState(fields["state"]), int(fields["tries"]), due, _log(fields))


def _log(fields: dict[str, str]) -> tuple[Try, ...]:
    return tuple(Try(**one) for one in json.loads(fields["log"]))


def _member(task_id: str, event: Event) -> str:
    return f"{task_id}:{event}"


@cache
def _script(name: str) -> str:
    """The script without its comments: EVAL sends it each time, and a pipeline has no second try."""
    lines = (_FOLDER / f"{name}.lua").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("--"))
