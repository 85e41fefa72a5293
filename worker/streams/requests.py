"""What Celery's worker in this process is busy with, if there is one."""

from __future__ import annotations

import sys
from typing import Any

_SNAPSHOT_TRIES = 10


def all_requests() -> set[Any]:
    """Every request that Celery holds: running, reserved for a child, or waiting for its time."""
    state = _state()
    if state is None:
        return set()
    # Not only the dict, which is keyed by task id: two deliveries of one job hide each other there.
    weak_sets = (state.active_requests, state.reserved_requests, state.scheduled_requests)
    return set(state.requests.values()).union(*map(_snapshot, weak_sets))


def is_at_work() -> bool:
    """Whether a child works on a request or will at once; those that wait for their time keep none busy."""
    state = _state()
    return state is not None and bool(_snapshot(state.active_requests) or _snapshot(state.reserved_requests))


def running_leases() -> set[str]:
    """Leases of the attempts that a child is working on."""
    state = _state()
    active = _snapshot(state.active_requests) if state is not None else []
    return {request.message.delivery_tag for request in active if not request._already_cancelled}  # noqa: SLF001


def running_children() -> dict[str, int]:
    """The process id of the child that works on each task id."""
    state = _state()
    active = _snapshot(state.active_requests) if state is not None else []
    return {request.id: request.worker_pid for request in active if request.worker_pid}


def _state() -> Any:
    # Not imported: publishers have no worker, and must not load one.
    return sys.modules.get("celery.worker.state")


def _snapshot(weak_set: Any) -> list[Any]:
    """A copy, also from another thread than the one that changes the set."""
    for _ in range(_SNAPSHOT_TRIES):
        try:
            return list(weak_set)
        except RuntimeError:  # it changed while it was copied
            continue
    return []
