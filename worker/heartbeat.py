"""Which workers are alive: each parent process writes its name and the time every few seconds.

Celery's own ping is answered slowly, or by a parent whose child can't start; this is one O(log n) read.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, cast

from celery.signals import worker_ready, worker_shutting_down

from worker.logs import get_logger
from worker.patience import AWAY
from worker.problems import PROBLEMS_KEY, report_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

log = get_logger(__name__)

WORKERS_KEY = "workers"  # zset: worker name -> Unix seconds of its last beat
BEAT_S = 2.0
READY_POLL_S = 0.1
SILENT_AFTER_S = 10.0
FORGOTTEN_AFTER_S = 86_400.0


def live_workers(client: redis.Redis, now: float) -> list[str]:
    """Names of the workers that were heard of in the last SILENT_AFTER_S."""
    found = client.zrange(WORKERS_KEY, now - SILENT_AFTER_S, "+inf", byscore=True)
    return cast("list[str]", found)


class Heart:
    """Beats in a thread of its own, from the time Celery is ready to read the queue until it stops reading.

    Args:
        is_ready: Whether the worker takes jobs; it counts as alive from the first time that this is true.
        duty: Called at every beat, and on while the worker drains.
        problem: Why the worker takes no job for now, if so; it says that instead of beating.
    """

    def __init__(
        self,
        client: redis.Redis,
        name: str,
        is_ready: Callable[[], bool],
        duty: Callable[[], object],
        problem: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._client = client
        self._name = name
        self._is_ready = is_ready
        self._duty = duty
        self._problem = problem
        self._stopped = threading.Event()

    def install(self) -> None:
        worker_ready.connect(self._start, weak=False)
        worker_shutting_down.connect(self._stop, weak=False)

    def _start(self, **_: object) -> None:
        threading.Thread(target=self._run, name="heart", daemon=True).start()

    def _stop(self, **_: object) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._is_ready():
            if self._stopped.wait(READY_POLL_S):
                return
        log.info("worker_ready", worker=self._name)
        while not self._stopped.is_set():
            self._quietly(self._beat)
            self._quietly(self._duty)
            self._stopped.wait(BEAT_S)
        self._quietly(lambda: self._client.zrem(WORKERS_KEY, self._name))
        while True:  # while it drains; the process ends this thread
            self._quietly(self._duty)
            time.sleep(BEAT_S)

    def _beat(self) -> None:
        now = time.time()
        reason = self._problem()
        if reason is not None:
            report_problem(self._client, self._name, reason, now)
            return
        pipe = self._client.pipeline(transaction=False)
        pipe.zadd(WORKERS_KEY, {self._name: now})
        pipe.zremrangebyscore(WORKERS_KEY, "-inf", now - FORGOTTEN_AFTER_S)
        pipe.hdel(PROBLEMS_KEY, self._name)
        pipe.execute()

    def _quietly(self, call: Callable[[], object]) -> None:
        try:
            call()
        except AWAY as exc:
            log.warning("heartbeat_missed", error=type(exc).__name__)
        except Exception:  # the loop's top: without this thread the worker would be thought dead
            log.exception("heartbeat_failed")
