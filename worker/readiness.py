"""Whether this worker may read from the stream: its child must have loaded the engine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from celery.signals import worker_process_init

from worker.errors import EngineUnavailable, OutOfGpuMemory
from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)

REASON_BYTES = 2000


class Load(IntEnum):
    """How far the child is with its engine."""

    LOADING = 0
    LOADED = 1
    FAILED = 2


class Preloader:
    """Loads the engine in every child before its first job, and tells the parent how that went.

    A child that can't load would fail every job; so its worker takes none, says why and ends. Whoever
    supervises it starts it again.

    Args:
        preload: Called in the child; raises EngineUnavailable or OutOfGpuMemory.
    """

    def __init__(self, preload: Callable[[], None]) -> None:
        self._preload = preload
        # In memory that parent and child share; unlocked, since a killed child would keep a lock for ever.
        self._state = multiprocessing.Value("i", Load.LOADING, lock=False)
        self._reason: Any = multiprocessing.Array("c", REASON_BYTES, lock=False)

    @property
    def failure(self) -> str | None:
        """Why a child could not load the engine."""
        return self._reason.value.decode(errors="replace") if self._state.value == Load.FAILED else None

    def is_loaded(self) -> bool:
        return bool(self._state.value == Load.LOADED)

    def install(self) -> None:
        worker_process_init.connect(self._load, weak=False)

    def _load(self, **_: object) -> None:
        try:
            self._preload()
        except (EngineUnavailable, OutOfGpuMemory) as exc:
            log.error("engine_unavailable", reason=exc.message)  # noqa: TRY400  its words are enough
            self._reason.value = exc.message.encode()[: REASON_BYTES - 1]
            self._state.value = Load.FAILED
            os.kill(os.getppid(), signal.SIGTERM)
        else:
            self._state.value = Load.LOADED
