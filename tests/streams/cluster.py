"""A server, real Celery workers on it, and the trace that their tasks leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from kombu.pools import reset as reset_pools

from tests.streams.sample_app import create_app
from tests.support.waiting import wait_until
from worker import streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.result import AsyncResult

    from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
QUEUE = "celery"


class Worker:
    """A Celery worker process with one child, in a session of its own."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        self.name = f"{name}@test"
        self._log_path = folder / f"{name}.log"
        argv = [sys.executable, "-m", "celery", "-A", "tests.streams.sample_app", "worker", "-n", self.name]
        with self._log_path.open("ab") as log:
            self.popen = subprocess.Popen(
                [*argv, "-c", "1", "-l", "info", "--without-mingle"],  # mingle takes a second
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def is_ready(self) -> bool:
        return f"{self.name} ready" in self.log

    def child(self) -> psutil.Process:
        return psutil.Process(self.popen.pid).children()[0]

    def signal(self, signum: signal.Signals) -> None:
        self.popen.send_signal(signum)

    def kill(self) -> None:
        """SIGKILL to the parent alone: its child must notice by itself."""
        if self.popen.poll() is None:
            self.signal(signal.SIGKILL)
            self.popen.wait(10)

    def stop(self) -> int:
        """A warm shutdown; the exit status."""
        self.signal(signal.SIGTERM)
        return self.popen.wait(20)


class Cluster:
    """Workers on one server. Every judgement is on the trace, which no crash of Redis can change."""

    def __init__(self, server: RedisServer, folder: Path, **options: Any) -> None:
        self.server = server
        self.folder = folder
        self.options = options
        self.app = create_app(server.url, **options)
        # Results are polled here. Celery repairs a subscription to them, when the server was away, by
        # dropping sockets that it doesn't close, and that is a warning in whichever test runs next.
        self.app.backend.on_task_call = lambda *_args: None
        self.app.backend.remove_pending_result = lambda result: result  # nothing to unsubscribe from
        self.client = server.client()
        self.gate = folder / "gate"
        self._trace_path = folder / "trace.jsonl"
        self._workers: list[Worker] = []

    def start_worker(self, name: str = "one", **settings: Any) -> Worker:
        (worker,) = self.start_workers(name, **settings)
        return worker

    def start_workers(self, *names: str, **settings: Any) -> list[Worker]:
        environment = {
            "BROKER": self.server.url,
            "TRACE": str(self._trace_path),
            "GATE": str(self.gate),
            "OPTIONS": json.dumps(self.options),
            "SETTINGS": json.dumps(settings),
        }
        workers = [Worker(name, self.folder, environment) for name in names]
        self._workers += workers
        for worker in workers:
            self.wait(lambda worker=worker: worker.is_ready(), 20, f"{worker.name} to be ready")
        return workers

    def send(self, task: str, *args: Any, **options: Any) -> AsyncResult[Any]:
        return self.app.send_task(task, args=args, **options)

    def trace(self, event: str, task_id: str | None = None) -> list[dict[str, Any]]:
        if not self._trace_path.exists():
            return []
        lines = [json.loads(line) for line in self._trace_path.read_text().splitlines()]
        return [line for line in lines if line["event"] == event and task_id in (None, line["id"])]

    def starts(self, result: AsyncResult[Any]) -> list[dict[str, Any]]:
        return self.trace("start", result.id)

    def ends(self, result: AsyncResult[Any]) -> list[dict[str, Any]]:
        return self.trace("end", result.id)

    def wait_start(self, result: AsyncResult[Any], number: int = 1, timeout_s: float = 15) -> dict[str, Any]:
        what = f"start {number} of {result.id}"
        return self.wait(
            lambda: (found := self.starts(result))[number - 1 :] and found[number - 1], timeout_s, what
        )

    def wait_success(self, result: AsyncResult[Any], timeout_s: float = 20) -> Any:
        self.wait(lambda: result.state == "SUCCESS", timeout_s, f"{result.id} to succeed")
        return result.result

    def wait_empty(self, queue: str = QUEUE, timeout_s: float = 10) -> None:
        """Until nothing waits and nothing is leased."""
        self.wait(lambda: streams.entry_count(self.client, queue) == 0, timeout_s, f"{queue} to be empty")

    def wait(self, condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
        """As wait_until, with the workers' logs in the failure."""
        try:
            return wait_until(condition, timeout_s, what)
        except AssertionError as exc:
            logs = "\n".join(f"--- {worker.name}\n{worker.log[-4000:]}" for worker in self._workers)
            raise AssertionError(f"{exc}\n{logs}") from exc

    def outlast(self, seconds: float) -> None:
        """Let time pass: the condition itself is that something lasts longer than a lease."""
        until = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() >= until, seconds + 1, "time to pass")

    def cut_connections(self) -> None:
        """Reset every connection but this client's; the server stays."""
        for kind in ("normal", "pubsub"):
            self.client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
        reset_pools()  # app.close() only forgets its connections
        self.app.backend.client.connection_pool.disconnect()
        self.app.close()
        self.client.close()
