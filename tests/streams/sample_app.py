"""A Celery application whose tasks leave a trace: the worker processes of the tests run it.

Environment: BROKER (redis URL), TRACE (append-only file), OPTIONS (JSON, broker_transport_options),
SETTINGS (JSON, over the recommended ones), GATE (a file: no new work while it exists).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.exceptions import Reject

from worker import streams

if TYPE_CHECKING:
    from celery import Task

LEASE_S = 2


def create_app(redis_url: str, **options: Any) -> Celery:
    created = Celery("sample", broker=streams.broker_url(redis_url), backend=redis_url)
    created.conf.update(streams.recommended_settings())
    created.conf.broker_transport_options = {"lease_s": LEASE_S, **options}
    created.conf.worker_hijack_root_logger = False
    created.conf.update(json.loads(os.environ.get("SETTINGS", "{}")))
    streams.install(created)
    return created


app = create_app(os.environ.get("BROKER", "redis://"), **json.loads(os.environ.get("OPTIONS", "{}")))

if "GATE" in os.environ:
    streams.set_gate(lambda: not Path(os.environ["GATE"]).exists())


def trace(event: str, task: Task) -> None:
    request = task.request
    line = {
        "event": event,
        "id": request.id,
        "worker": request.hostname,
        "attempt": getattr(request, "attempt", None),
        "lease": getattr(request, "lease_id", None),
        "at": time.time(),
    }
    with Path(os.environ["TRACE"]).open("a") as file:  # one short write with O_APPEND: never torn
        file.write(json.dumps(line) + "\n")


@app.task(bind=True, name="work")
def work(self: Task, seconds: float = 0, result: Any = "done") -> Any:
    trace("start", self)
    time.sleep(seconds)
    trace("end", self)
    return result


@app.task(bind=True, name="die")
def die(self: Task, signum: int = signal.SIGKILL) -> None:
    """Kills its own process, as a segfault or the kernel's out-of-memory killer would."""
    trace("start", self)
    os.kill(os.getpid(), signum)
    time.sleep(60)


@app.task(bind=True, name="leave")
def leave(self: Task, status: int, how: str) -> None:
    """Ends its own process, at once or in Python's way."""
    trace("start", self)
    (os._exit if how == "os" else sys.exit)(status)


@app.task(bind=True, name="refuse")
def refuse(self: Task, reason: str) -> None:
    trace("start", self)
    raise Reject(reason, requeue=True)


@app.task(bind=True, name="flaky")
def flaky(self: Task) -> int:
    """Fails once, and asks to be tried again a second later."""
    trace("start", self)
    if self.request.retries == 0:
        raise self.retry(countdown=1)
    trace("end", self)
    return int(self.request.retries)


@app.task(name="add")
def add(*numbers: int) -> int:
    return sum(numbers)


@app.task(name="total")
def total(numbers: list[int]) -> int:
    return sum(numbers)
