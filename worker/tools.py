"""What an attempt works with: store, cache and engines, made when a child first needs them.

The parent process forks its children with this object in it, so nothing here may be made before the
fork: a loaded CTranslate2 model hangs a forked child for ever, and a shared socket mixes answers up.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from worker.logs import get_logger
from worker.resources import create_cache, create_client, create_store

if TYPE_CHECKING:
    from celery import Celery

    from worker.cache import Cache
    from worker.engines.choice import Choice
    from worker.engines.protocol import Engine
    from worker.jobs import JobStore
    from worker.settings import Settings

log = get_logger(__name__)


class Tools:
    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._engines: dict[str, Engine] = {}
        self.settings = settings

    @cached_property
    def store(self) -> JobStore:
        return create_store(self.settings, create_client(self.settings))

    @cached_property
    def cache(self) -> Cache:
        return create_cache(self.settings)

    def choose(self, wanted: str | None = None) -> Choice:
        """Raises EngineUnavailable."""
        from worker.engines.choice import choose  # noqa: PLC0415  the child's business alone

        return choose(self.settings, wanted)

    def engine(self, name: str) -> Engine:
        """The engine, made once in this child and kept. It loads its models when it first needs them.

        Raises EngineUnavailable.
        """
        from worker.engines.registry import create  # noqa: PLC0415  engines load in the child only

        if name not in self._engines:
            self._engines[name] = create(name, self.settings)
        return self._engines[name]

    def discard_engine(self, name: str) -> None:
        """Load it anew for the next job, where the settings want it."""
        self._engines.pop(name, None)

    def preload(self) -> None:
        """Load the engine that most jobs will ask for. Raises EngineUnavailable, OutOfGpuMemory."""
        choice = self.choose()
        log.info("engine_chosen", engine=choice.name, reason=choice.reason)
        self.engine(choice.name).prepare()

    def mark_cancelled(self, task_id: str) -> None:
        self._app.backend.mark_as_revoked(task_id, reason="cancelled")

    def forget(self, task_id: str) -> None:
        """Drop Celery's result of a job that is gone."""
        self._app.AsyncResult(task_id).forget()
