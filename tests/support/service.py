"""The service as real processes on a server of its own, for tests that strike at them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from ops.stack import free_port
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from worker.measures import read_samples

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests/data/meeting.wav"
START_S = 30.0


@dataclass
class Process:
    """A process of the service, in a session of its own."""

    name: str
    popen: subprocess.Popen[bytes]
    log_path: Path
    log_start: int = 0

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def said(self, text: str) -> bool:
        """Whether the log has it, leaving out what an earlier process of this name wrote."""
        return text.encode() in self.log_path.read_bytes()[self.log_start :]

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def signal(self, signum: signal.Signals) -> None:
        self.popen.send_signal(signum)

    def kill(self) -> None:
        """SIGKILL to this process alone: its children must notice by themselves."""
        self.signal(signal.SIGKILL)
        self.popen.wait(10)

    def end(self, timeout_s: float = 20) -> int:
        if self.popen.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@dataclass
class Service:
    """Redis, and whatever of gateway, workers and sweeper a test starts. Short leases, eager sweeps."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    root: Path = ROOT  # of the release whose processes are started from here on

    def __post_init__(self) -> None:
        self.redis = RedisServer(self.folder / "redis").start()
        self.cache = self.folder / "cache"
        self.port = free_port()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)

    @property
    def environment(self) -> dict[str, str]:
        timings = {"LEASE_S": "3", "SWEEP_S": "0.5", "REPAIR_S": "1", "MIN_FREE_BYTES": "0"}
        places = {
            "REDIS_URL": self.redis.url,
            "CACHE_DIR": str(self.cache),
            "GATEWAY_PORT": str(self.port),
        }
        return {**os.environ, **timings, **places, **self.settings}

    def start(self, name: str, *arguments: str, **settings: str) -> Process:
        log_path = self.folder / f"{name}.log"
        with log_path.open("ab") as log:
            log_start = log.tell()
            popen = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=self.root,
                env={**self.environment, **settings},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process = Process(name, popen, log_path, log_start)
        self.processes.append(process)
        return process

    def start_gateway(self) -> Process:
        process = self.start("gateway", "gateway")
        self.wait(self._is_live, START_S, "the gateway to be live")
        return process

    def start_worker(self, name: str = "one", **settings: str) -> Process:
        process = self.start(f"worker-{name}", "worker", "--name", f"{name}@test", **settings)
        self.wait(lambda: process.said('"worker_ready"'), START_S, f"worker {name} to be ready")
        return process

    def start_sweeper(self) -> Process:
        return self.start("sweeper", "ops", "sweeper")

    def start_all(self) -> Process:
        """Gateway, sweeper and one worker; the worker."""
        self.start_gateway()
        self.start_sweeper()
        return self.start_worker()

    def wait(self, condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
        """As wait_until, but the tail of every log is part of the failure."""
        try:
            return wait_until(condition, timeout_s, what)
        except AssertionError as exc:
            tails = "\n".join(f"--- {p.name} ({p.popen.poll()})\n{p.log[-3000:]}" for p in self.processes)
            raise AssertionError(f"{exc}\n{tails}") from exc

    def submit(self, recording: Path = SAMPLE, **fields: str) -> str:
        with recording.open("rb") as file:
            answer = self.http.post(
                "/transcribe", files={"file": (recording.name, file, "audio/wav")}, data=fields
            )
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        return str(answer.json()["task_id"])

    def status(self, task_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/status/{task_id}")
        assert answer.status_code == httpx.codes.OK, answer.text
        return dict(answer.json())

    def wait_for(self, task_id: str, status: str, timeout_s: float = 60) -> dict[str, Any]:
        return dict(
            self.wait(
                lambda: (found := self.status(task_id))["status"] == status and found,
                timeout_s,
                f"job {task_id} to be {status}; it is {self.status(task_id)}",
            )
        )

    def download(self, task_id: str, fmt: str = "json") -> httpx.Response:
        answer = self.http.get(f"/download/{task_id}", params={"fmt": fmt})
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer

    def outcomes(self) -> dict[tuple[str, str], int]:
        """How many jobs the metrics have counted, by device and outcome."""
        with self.redis.client() as client:
            samples = [one for one in read_samples(client) if one.measure == "ended"]
        return {(one.device, one.bound): int(one.value) for one in samples}

    def files(self) -> list[str]:
        """Every file of every job, relative to the cache."""
        # os.walk, since a worker may be removing folders meanwhile.
        walked = [(Path(folder), names) for folder, _, names in os.walk(self.cache / "jobs")]
        return sorted(
            str((folder / name).relative_to(self.cache)) for folder, names in walked for name in names
        )

    def end(self) -> None:
        self.redis.thaw()
        for process in reversed(self.processes):
            process.end()
        self.http.close()
        self.redis.stop()

    def _is_live(self) -> bool:
        try:
            return self.http.get("/health/live").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False
