"""Celery's result backends, mended where they would make a worker acknowledge what it hasn't run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from celery.backends.base import DisabledBackend
from celery.backends.redis import RedisBackend as CeleryBackend
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

if TYPE_CHECKING:
    from celery import Celery


# The server can't write to its disk. redis-py puts words of its own before what a pipeline's command met.
_CANNOT_SAVE = re.compile(r"(Command # \d+ .* of pipeline caused error: )?MISCONF ", re.DOTALL)


class RedisBackend(CeleryBackend):
    """Keeps trying while the server refuses writes, given ``result_backend_always_retry``.

    Celery's own tries again only where the server is away. Where it refuses, out of memory for instance,
    every job that a worker read meanwhile would end without a result, most of them without having run.
    """

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        return is_passing_refusal(exc) or bool(super().exception_safe_to_retry(exc))


class NoBackend(DisabledBackend):
    """Says that it stores nothing.

    Celery's own says otherwise, so that ``worker_deduplicate_successful_tasks`` asks it whether a delivery
    that comes again has succeeded already; that raises, and the job ends.
    """

    persistent = False


def is_passing_refusal(exc: Exception) -> bool:
    """Whether the server will take the same write once it has room, or a disk, or is a primary again."""
    if isinstance(exc, (OutOfMemoryError, ReadOnlyError)):
        return True
    return isinstance(exc, ResponseError) and bool(_CANNOT_SAVE.match(str(exc)))


def use_for(app: Celery) -> None:
    """Take the place of Celery's own, unless the application has chosen others."""
    mended = {"redis": RedisBackend, "rediss": RedisBackend, "disabled": NoBackend}
    names = {scheme: f"{__name__}:{backend.__name__}" for scheme, backend in mended.items()}
    app.loader.override_backends = {**names, **app.loader.override_backends}
