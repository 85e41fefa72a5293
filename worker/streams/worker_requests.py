"""Celery's request, which says why an attempt died before it gives the job back.

For workers alone: publishers must not load Celery's worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.exceptions import Reject
from celery.worker import state
from celery.worker.request import Request as CeleryRequest

from worker.streams.keys import is_lease_id

if TYPE_CHECKING:
    from celery import Celery

_LONGEST_WHY = 300


class Request(CeleryRequest):
    """Celery rejects a dead attempt's message without a reason; its lease keeps it until then."""

    def revoked(self) -> bool:
        """Celery forgets a request that it revokes itself, not one that lost its lease before its start."""
        if self._already_revoked:
            state.task_ready(self)
        return bool(super().revoked())

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        self._note(exc_info)
        return super().on_failure(exc_info, *args, **kwargs)

    def _worker_lost_info(self, exc: BaseException) -> Any:
        """Celery's words for a child that called ``exit``."""
        exc_info = super()._worker_lost_info(exc)
        self._note(exc_info)
        return exc_info

    def _note(self, exc_info: Any) -> None:
        tag = self.message.delivery_tag
        if is_lease_id(tag):
            self.message.channel.leases.note_cause(tag, f"worker {self.hostname}: {words_for(exc_info)}")


def words_for(exc_info: Any) -> str:
    """What ended an attempt, in Celery's words, without billiard's number for the job."""
    exc = getattr(exc_info.exception, "exc", exc_info.exception)  # with its traceback, it is wrapped
    words = f"rejected: {exc.reason}" if isinstance(exc, Reject) else str(exc).partition(" Job: ")[0]
    return words[:_LONGEST_WHY].rstrip(".") or repr(exc)


def use_for(app: Celery) -> None:
    """Let every task of a worker have this request, unless it has its own. Before tasks are consumed."""
    for task in app.tasks.values():
        if task.Request == f"{CeleryRequest.__module__}:{CeleryRequest.__qualname__}":
            task.Request = Request
