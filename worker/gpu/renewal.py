"""When a worker's child is replaced so that it holds no memory any more, and how no job is lost by that."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from worker.logs import get_logger
from worker.readiness import Load

if TYPE_CHECKING:
    from worker.readiness import Child

log = get_logger(__name__)


class Renewal:
    """Replaces a child that is spent, or idle for ``idle_unload_s`` with its engine loaded (0: never).

    In three looks: the gate closes; a look later, where no job has slipped in, the child is killed; its
    successor, which loads nothing before its first job, opens the gate.
    """

    def __init__(self, idle_unload_s: float) -> None:
        self._idle_unload_s = idle_unload_s
        self._idle_since: float | None = None
        self._count = 0
        self._killed_pid: int | None = None
        self.is_on = False

    def look(self, child: Child, now: float, *, busy: bool) -> None:
        """Call every second or so, with monotonic seconds."""
        if self._killed_pid is not None:
            self._finish(child)
        elif self.is_on:
            self._replace(child, busy=busy)
        elif child.state is Load.SPENT or self._is_idle(child, now, busy=busy):
            log.info("child_replaced", spent=child.state is Load.SPENT)
            child.let_preload(allowed=False)
            self.is_on = True
        elif child.is_loaded():
            child.let_preload(allowed=True)  # should it die

    def _is_idle(self, child: Child, now: float, *, busy: bool) -> bool:
        ended = child.jobs_done + child.attempts_failed
        if busy or ended != self._count or not child.is_loaded():
            self._idle_since, self._count = None, ended
            return False
        if self._idle_since is None:
            self._idle_since = now
        return bool(self._idle_unload_s) and now - self._idle_since >= self._idle_unload_s

    def _replace(self, child: Child, *, busy: bool) -> None:
        if busy:
            return
        self._killed_pid = child.pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)

    def _finish(self, child: Child) -> None:
        if child.pid != self._killed_pid and child.is_up():
            self._killed_pid, self._idle_since, self.is_on = None, None, False
