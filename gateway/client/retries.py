"""Whether to send a request again, and when. Pure.

Every request may be sent twice: a submit carries an Idempotency-Key, by which the service makes one job of it
and its repetitions. Only a recording that can't be read twice (a pipe) is sent once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx

from gateway.client.answers import error_of
from gateway.client.errors import BUSY

if TYPE_CHECKING:
    from gateway.client.requests import Call

IN_FLIGHT = "request_in_flight"  # the try before is still being taken
PATIENCE = 5  # a waiting caller's tries: the job goes on meanwhile

Outcome = httpx.Response | httpx.TransportError


@dataclass(frozen=True)
class RetryPolicy:
    """How often and when to try again.

    The pause doubles from ``first_s`` to ``longest_s``, each shortened by up to half at random; a
    Retry-After takes its place. One beyond ``longest_retry_after_s`` is the caller's to decide about.
    """

    tries: int = 6
    first_s: float = 0.5
    longest_s: float = 10.0
    longest_retry_after_s: float = 120.0

    @property
    def patient(self) -> RetryPolicy:
        return replace(self, tries=self.tries * PATIENCE)


@dataclass(frozen=True)
class Retry:
    """What a caller is told of a repetition: why, and in how many seconds."""

    reason: str
    after_s: float
    tries: int


def pause_s(policy: RetryPolicy, call: Call, outcome: Outcome, *, tries: int, chance: float) -> float | None:
    """Seconds until the next try; None where there is to be none.

    Args:
        tries: Made so far.
        chance: From 0 to 1.
    """
    spent = call.upload is not None and not call.upload.can_be_read
    if tries >= policy.tries or spent or not is_transient(outcome):
        return None
    asked_s = error_of(outcome).retry_after_s if isinstance(outcome, httpx.Response) else None
    if asked_s is None:
        doubled_s: float = policy.first_s * 2.0 ** (tries - 1)
        return min(doubled_s, policy.longest_s) * (1 - chance / 2)
    return asked_s if asked_s <= policy.longest_retry_after_s else None


def is_transient(outcome: Outcome) -> bool:
    if isinstance(outcome, httpx.TransportError):
        return True
    return outcome.status_code in BUSY or (outcome.is_error and error_of(outcome).code == IN_FLIGHT)


def reason_of(outcome: Outcome) -> str:
    if isinstance(outcome, httpx.Response):
        return str(error_of(outcome))
    return str(outcome) or type(outcome).__name__
