"""What an application can choose, with its bounds, and the Celery settings that the guarantees need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.streams.keys import DEFAULT_PREFIX, QueueKeys

if TYPE_CHECKING:
    from collections.abc import Mapping

LEASE_MIN_S, LEASE_MAX_S = 2, 600
ATTEMPTS_MIN, ATTEMPTS_MAX = 1, 100
_SWEEP_MIN_S, _SWEEP_MAX_S = 0.25, 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """The transport's share of ``broker_transport_options``. All processes of a queue need the same.

    ``prefix`` starts every key of ours, kombu's ``global_keyprefix`` included. ``sweep`` lets workers look
    for expired leases themselves; without it something else must call ``sweep()``.
    """

    lease_s: float = 15.0
    max_attempts: int = 3
    prefix: str = DEFAULT_PREFIX
    sweep: bool = True

    def __post_init__(self) -> None:
        _require_between("lease_s", self.lease_s, LEASE_MIN_S, LEASE_MAX_S, "seconds")
        _require_between("max_attempts", self.max_attempts, ATTEMPTS_MIN, ATTEMPTS_MAX, "attempts")

    @classmethod
    def from_transport_options(cls, options: Mapping[str, Any]) -> Options:
        """Reads lease_s, max_attempts, sweep, queue_prefix, and kombu's own global_keyprefix."""
        given = {name: options[name] for name in ("lease_s", "max_attempts", "sweep") if name in options}
        prefix = options.get("global_keyprefix", "") + options.get("queue_prefix", DEFAULT_PREFIX)
        return cls(**given, prefix=prefix)

    @property
    def renew_s(self) -> float:
        """Two renewals may fail before the lease is lost."""
        return self.lease_s / 3

    @property
    def sweep_s(self) -> float:
        """How often a worker sweeps: well within ``max_sweep_gap_s``."""
        return min(max(self.lease_s / 6, _SWEEP_MIN_S), _SWEEP_MAX_S)

    @property
    def max_sweep_gap_s(self) -> float:
        """Sweeps that come further apart than this never reclaim anything.

        An outage that hides between two sweeps is shorter than this. A worker may have renewed ``renew_s``
        before it, so its lease still has ``lease_s / 6`` left when the server is back, and it renews first.
        """
        return self.lease_s / 2

    def keys(self, queue: str) -> QueueKeys:
        return QueueKeys(queue, self.prefix)


def _require_between(name: str, value: Any, low: float, high: float, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"broker_transport_options: {name} must be {low} to {high} {unit}, not {value!r}")


def recommended_settings() -> dict[str, Any]:
    """The Celery settings that the guarantees in docs/streams.md take for granted."""
    return {
        # The entry is the promise that someone does the work: it ends after the work, not before.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # More than one entry a child would wait behind a long job while other workers are idle.
        "worker_prefetch_multiplier": 1,
        # Nor does a countdown that is held here, or was, give credit for one.
        "worker_disable_prefetch": True,
        # A reconnect is no reason to stop a job: its lease goes on.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Without it a job that ends while Redis is away has failed, its work thrown away.
        "result_backend_always_retry": True,
        # The result connection is idle during a long job; middle-boxes close such connections.
        "redis_backend_health_check_interval": 30,
        "redis_socket_keepalive": True,
        # A crash between the stored result and the acknowledgement redelivers a finished job.
        "worker_deduplicate_successful_tasks": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_track_started": True,
        "worker_send_task_events": True,
        "task_send_sent_event": True,
    }
