"""What a worker's child tells its parent: how far it is with its engine, and what it has done.

The parent reads from the stream only while its child could work.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from celery.signals import task_failure, task_prerun, task_retry, task_success, worker_process_init

from worker.errors import EngineUnavailable, GpuFault, OutOfGpuMemory
from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.errors import JobError

log = get_logger(__name__)

REASON_BYTES = 2000


class Load(IntEnum):
    """How far the child is with its engine."""

    LOADING = 0
    LOADED = 1
    UNLOADED = 2  # it loads with its first job: the device had no room, or was to be given back
    SPENT = 3  # the GPU's memory was full: the child must be replaced, so that it holds none
    FAULTY = 4  # CUDA failed: no child of this worker can be trusted with a job
    FAILED = 5  # the engine can't be loaded: every job would fail


class Child:
    """One worker's child, whichever it is at the moment, in memory that both processes share.

    Unlocked: a killed child would keep a lock for ever. There is one writer of each value at a time.
    """

    def __init__(self) -> None:
        self._state = multiprocessing.Value("i", Load.LOADING, lock=False)
        self._pid = multiprocessing.Value("i", 0, lock=False)
        self._preload = multiprocessing.Value("b", 1, lock=False)
        self._done = multiprocessing.Value("L", 0, lock=False)
        self._failed = multiprocessing.Value("L", 0, lock=False)
        self._reason: Any = multiprocessing.Array("c", REASON_BYTES, lock=False)

    @property
    def state(self) -> Load:
        return Load(self._state.value)

    @property
    def pid(self) -> int:
        return int(self._pid.value)

    @property
    def jobs_done(self) -> int:
        return int(self._done.value)

    @property
    def attempts_failed(self) -> int:
        """Attempts that ended with an error; those that died with their child are not among them."""
        return int(self._failed.value)

    @property
    def failure(self) -> str | None:
        """Why a child could not load the engine."""
        return self._why(Load.FAILED)

    @property
    def cuda_failure(self) -> str | None:
        return self._why(Load.FAULTY)

    def is_loaded(self) -> bool:
        return self.state is Load.LOADED and self._is_there()

    def is_up(self) -> bool:
        """Whether it could begin a job at once."""
        return self.state in {Load.LOADED, Load.UNLOADED} and self._is_there()

    def let_preload(self, allowed: bool) -> None:
        """Whether the next child loads the engine before its first job; the parent's word."""
        self._preload.value = allowed

    def begin(self, preload: Callable[[], None], *, may_wait: bool) -> None:
        """What a new child does before it takes a job.

        Args:
            may_wait: A full GPU is no failure: the parent waits for room before it reads.
        """
        self._state.value = Load.LOADING
        self._pid.value = os.getpid()
        if not self._preload.value:
            self._state.value = Load.UNLOADED
            return
        try:
            preload()
        except OutOfGpuMemory as exc:
            if not may_wait:
                self.fail(exc.message)
                return
            log.warning("engine_not_loaded", reason=exc.message)
            self._state.value = Load.SPENT  # what it did load would stay
        except GpuFault as exc:
            self.note(exc)
        except EngineUnavailable as exc:
            self.fail(exc.message)
        else:
            self._state.value = Load.LOADED

    def fail(self, reason: str) -> None:
        """No child here can load the engine: have the worker end, and its supervisor start another."""
        log.error("engine_unavailable", reason=reason)
        self._end_with(Load.FAILED, reason)
        os.kill(os.getppid(), signal.SIGTERM)

    def note(self, error: JobError) -> None:
        """What an attempt's error says of the device."""
        if isinstance(error, GpuFault):
            self._end_with(Load.FAULTY, error.message)
        elif isinstance(error, OutOfGpuMemory):
            self.spend()

    def spend(self) -> None:
        if self.state in {Load.LOADED, Load.UNLOADED}:
            self._state.value = Load.SPENT

    def count_jobs(self) -> None:
        """Connect the signals that Celery sends in the child. For the parent, before it forks."""
        task_prerun.connect(self._use, weak=False)
        task_success.connect(self._count_done, weak=False)
        task_failure.connect(self._count_failed, weak=False)
        task_retry.connect(self._count_failed, weak=False)

    def _end_with(self, state: Load, reason: str) -> None:
        self._reason.value = reason.encode()[: REASON_BYTES - 1]
        self._state.value = state

    def _why(self, state: Load) -> str | None:
        return self._reason.value.decode(errors="replace") if self.state is state else None

    def _is_there(self) -> bool:
        """Whether the child that wrote the state still is: one that was killed could not change it."""
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return self.pid > 0

    def _use(self, **_: object) -> None:
        if self.state is Load.UNLOADED:
            self._state.value = Load.LOADED  # within moments; from here on its memory is the model's

    def _count_done(self, **_: object) -> None:
        self._done.value += 1

    def _count_failed(self, **_: object) -> None:
        self._failed.value += 1


def prepare_children(child: Child, preload: Callable[[], None], *, may_wait: bool) -> None:
    """Let every child of this process load the engine as ``child`` says, and count its jobs.

    Args:
        preload: Called in the child; raises EngineUnavailable, OutOfGpuMemory or GpuFault.
        may_wait: As in ``Child.begin``.
    """
    child.count_jobs()
    worker_process_init.connect(lambda **_: child.begin(preload, may_wait=may_wait), weak=False)
