"""What a webhook says, and what follows from each try to deliver it. Pure: no clock, no network, no Redis."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

WAITS_S = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800)
MOST_TRIES = len(WAITS_S) + 1  # over about 16 hours
JITTER = 0.2  # waits grow by up to this share, so that what failed together does not come back together
MAX_RETRY_AFTER_S = 24 * 3600
_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS = 408, 429


class Event(StrEnum):
    COMPLETED = "job.completed"
    FAILED = "job.failed"

    @property
    def status(self) -> str:
        """The job's state, as its record and the API call it."""
        return self.removeprefix("job.")


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """What one try came to: ``status`` of the answer or, without one, the kind of ``error``.

    ``lasting``: the error won't pass by itself, such as an address that is not allowed. ``retry_after`` is
    the answer's header.
    """

    status: int | None = None
    error: str = ""
    lasting: bool = False
    retry_after: str = ""


@dataclass(frozen=True)
class Step:
    """What becomes of a delivery; ``wait_s`` until its next try, where it is pending."""

    state: DeliveryState
    wait_s: float = 0.0


def webhook_id(body: str) -> str:
    """The same for every try, another for another end of the job: receivers tell repeats by it."""
    return "msg_" + hashlib.sha256(body.encode()).hexdigest()[:32]


def webhook_body(task_id: str, event: Event, ended_at: float) -> str:
    """The JSON that is sent. ``ended_at``: Unix seconds."""
    timestamp = datetime.fromtimestamp(ended_at, UTC).isoformat(timespec="milliseconds")
    data = {"task_id": task_id, "status": event.status}
    return json.dumps({"type": event, "timestamp": timestamp.replace("+00:00", "Z"), "data": data})


def next_step(outcome: Outcome, tries: int, now: float, chance: float) -> Step:
    """What follows from try number ``tries``, made at ``now``. ``chance``: from 0 to 1, at random."""
    if outcome.status is not None and outcome.status // 100 == 2:  # noqa: PLR2004  HTTP's class of success
        return Step(DeliveryState.DELIVERED)
    if _is_lasting(outcome) or tries >= MOST_TRIES:
        return Step(DeliveryState.FAILED)
    asked_s = retry_after_s(outcome.retry_after, now)
    return Step(DeliveryState.PENDING, max(backoff_s(tries, chance), asked_s))


def backoff_s(tries: int, chance: float) -> float:
    """Seconds between try number ``tries``, from 1, and the next."""
    return WAITS_S[tries - 1] * (1 + JITTER * chance)


def retry_after_s(header: str, now: float) -> float:
    """Seconds that a Retry-After asks for, in either of its forms; 0 for none or nonsense. At most a day."""
    text = header.strip()
    asked_s = float(text[:9]) if text.isascii() and text.isdecimal() else _seconds_until(text, now)
    return min(max(asked_s, 0.0), MAX_RETRY_AFTER_S)


def _seconds_until(date: str, now: float) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0


def _is_lasting(outcome: Outcome) -> bool:
    """The receiver says that the request is wrong, not that the moment is."""
    refused = outcome.status is not None and outcome.status // 100 == 4  # noqa: PLR2004  HTTP's class of refusal
    return outcome.lasting or (refused and outcome.status not in {_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS})
