"""Entries that a worker holds until their time comes (a countdown, a retry): then they ask for room.

Celery would run them as soon as a child is free, whatever the gate says. Without room here they go back to
the front of their queue, for whichever worker has it: their time has come there, too.

For workers alone.
"""

from __future__ import annotations

from typing import Any

from celery.worker import state

from worker.streams.hooks import hooks
from worker.streams.keys import is_lease_id


def ask_when_due(consumer: Any) -> None:
    """Let a Celery consumer ask. Before it makes its tasks' strategies, which keep what they find."""
    start = consumer.apply_eta_task

    def start_or_give_back(request: Any) -> None:
        if _is_ours(request) and not _has_room(consumer):
            _give_back(consumer, request)
        else:
            start(request)

    consumer.apply_eta_task = start_or_give_back


def _is_ours(request: Any) -> bool:
    """Whether it holds a lease that can be given back; one that was lost is stopped elsewhere."""
    message = request.message
    return is_lease_id(message.delivery_tag) and message.channel.leases.holds(message.delivery_tag)


def _has_room(consumer: Any) -> bool:
    """Whether the gate is open and a child free: waiting for one, it would keep an idle worker from it."""
    return hooks.gate() and len(state.reserved_requests) < consumer.pool.num_processes


def _give_back(consumer: Any, request: Any) -> None:
    request.message.channel.qos.give_back(request.message.delivery_tag, why="its time came, but no room")
    state.task_ready(request)
    # Its credit goes with it, and at once: the next read would fetch it again.
    consumer.qos.decrement_eventually()
    consumer.qos.update()
