"""What an attempt works with: store, cache and engine, made when a child first needs them.

The parent process forks its children with this object in it, so nothing here may be made before the
fork: a loaded CTranslate2 model hangs a forked child for ever, and a shared socket mixes answers up.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from worker.resources import create_cache, create_client, create_store

if TYPE_CHECKING:
    from celery import Celery

    from worker.cache import Cache
    from worker.engines.protocol import Engine, Options
    from worker.jobs import JobStore
    from worker.settings import Settings


class Tools:
    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    @cached_property
    def store(self) -> JobStore:
        return create_store(self._settings, create_client(self._settings))

    @cached_property
    def cache(self) -> Cache:
        return create_cache(self._settings)

    @cached_property
    def engine(self) -> Engine:
        """The engine with its models loaded: by this child's first job, and kept."""
        from worker.engines.registry import create  # noqa: PLC0415  engines load in the child only

        engine = create(self._settings.engine, self._settings)
        engine.prepare()
        return engine

    def options(self) -> Options:
        from worker.engines.protocol import Options  # noqa: PLC0415

        return Options(language=None, max_topics=10, diarize=True, topics=True)

    def mark_cancelled(self, task_id: str) -> None:
        self._app.backend.mark_as_revoked(task_id, reason="cancelled")

    def forget(self, task_id: str) -> None:
        """Drop Celery's result of a job that is gone."""
        self._app.AsyncResult(task_id).forget()
