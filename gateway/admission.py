"""Whether there is room for one more job: of all, and of one owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import KeyReused, TooManyWaiting, TooMuchStored
from worker.errors import QueueFull, ServiceError
from worker.jobs import OwnerBooks, OwnerLimits, Verdict

if TYPE_CHECKING:
    from gateway.services import Services
    from worker.settings import Settings

RETRY_AFTER_FULL_QUEUE_S = 60
RETRY_AFTER_FULL_STORE_S = 600  # until something is released or expires


def limits_of(settings: Settings) -> OwnerLimits:
    return OwnerLimits(settings.max_waiting_per_key, settings.max_stored_bytes_per_key)


def refuse_early(services: Services, owner: str, size_bytes: int) -> None:
    """Spare the client an upload that would be refused at its end; the end decides.

    Args:
        size_bytes: What the request says that it brings.

    Raises:
        QueueFull, TooManyWaiting, TooMuchStored
    """
    limits = limits_of(services.settings)
    if services.store.counts().waiting >= services.settings.max_waiting_jobs:
        raise refusal(Verdict.QUEUE_FULL)
    if limits == OwnerLimits():
        return
    holdings = OwnerBooks(services.client).holdings(owner)
    if 0 < limits.waiting <= holdings.waiting:
        raise refusal(Verdict.OWNER_WAITS)
    if 0 < limits.stored_bytes < holdings.stored_bytes + size_bytes:
        raise refusal(Verdict.OWNER_STORES)


def refusal(verdict: Verdict) -> ServiceError:
    """What to raise for a job that was not accepted."""
    if verdict is Verdict.KEY_REUSED:
        return KeyReused("this Idempotency-Key came with another request before: use a new key for each")
    if verdict is Verdict.OWNER_WAITS:
        return TooManyWaiting(
            "as many of your jobs are waiting as may: try again when some have begun",
            retry_after_s=RETRY_AFTER_FULL_QUEUE_S,
        )
    if verdict is Verdict.OWNER_STORES:
        return TooMuchStored(
            "your jobs hold as many bytes as they may: release some, or try again when some have expired",
            retry_after_s=RETRY_AFTER_FULL_STORE_S,
        )
    return QueueFull("too many jobs are waiting: try again later", retry_after_s=RETRY_AFTER_FULL_QUEUE_S)
