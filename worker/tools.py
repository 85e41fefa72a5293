"""What an attempt works with: store, cache and engines, made when a child first needs them.

The parent process forks its children with this object in it, so nothing here may be made before the
fork: a loaded CTranslate2 model hangs a forked child for ever, and a shared socket mixes answers up.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from worker.errors import Interrupted
from worker.jobs import JobState
from worker.logs import get_logger
from worker.measures import count_job
from worker.resources import create_cache, create_client, create_store
from worker.tracing import create_tracing

if TYPE_CHECKING:
    import redis
    from celery import Celery

    from worker.cache import Cache
    from worker.engines.choice import Choice
    from worker.engines.protocol import Engine
    from worker.errors import EngineUnavailable, JobError
    from worker.jobs import JobRecord, JobStore
    from worker.readiness import Child
    from worker.settings import Settings

log = get_logger(__name__)


class Tools:
    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._engines: dict[str, Engine] = {}
        self.settings = settings
        self.tracing = create_tracing(settings, "worker")
        self.child: Child | None = None  # set in a worker, before it forks

    @cached_property
    def client(self) -> redis.Redis:
        return create_client(self.settings)

    @cached_property
    def store(self) -> JobStore:
        return create_store(self.settings, self.client)

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
        if self.child is not None:
            self.child.spend()

    def preload(self) -> None:
        """Load the engine that most jobs will ask for. Raises EngineUnavailable, OutOfGpuMemory."""
        choice = self.choose()
        log.info("engine_chosen", engine=choice.name, reason=choice.reason)
        self.engine(choice.name).prepare()

    def unloadable(self, name: str, error: EngineUnavailable) -> JobError:
        """What it means for a job that its engine, which this worker offers, can't be loaded here.

        The engine of most jobs: this worker ends, and the job waits for another attempt.
        """
        if self.child is None or name != self.choose().name:
            return error
        self.child.fail(error.message)
        return Interrupted(f"the worker could not load its engine: {error.message}")

    def note_error(self, error: JobError) -> None:
        """Tell the parent what an attempt's error says of the device."""
        if self.child is not None:
            self.child.note(error)

    def count_job(self, record: JobRecord, *, speed_tells: bool) -> None:
        """Count a job that has ended, and learn how fast jobs go. Raises redis.RedisError.

        Args:
            speed_tells: The attempt's time went into transcribing.
        """
        if speed_tells and record.started_at and record.ended_at and record.state is JobState.COMPLETED:
            self.store.note_speed(record.size_bytes, record.ended_at - record.started_at)
        count_job(self.client, record, record.options.engine or self.choose().name, speed_tells=speed_tells)

    def mark_cancelled(self, task_id: str) -> None:
        self._app.backend.mark_as_revoked(task_id, reason="cancelled")

    def forget(self, task_id: str) -> None:
        """Drop Celery's result of a job that is gone."""
        self._app.AsyncResult(task_id).forget()
