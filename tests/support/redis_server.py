"""A real server on a free port, which tests stop, kill, freeze and start again."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from ops.stack import free_port, redis_argv
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


OTHER_SERVER = "TEST_REDIS_SERVER"  # the path of a server to test with, instead of the embedded one


class RedisServer:
    """The embedded server. What it acknowledged survives ``kill`` and ``start``: it lies in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> RedisServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self._argv(), stdout=log, stderr=log)
        wait_until(self._answers, 10, "the Redis server to answer")
        return self

    def client(self, *, protocol: int = 3, decode: bool = True, retries: int = 3) -> redis.Redis:
        retry = Retry(ConstantBackoff(0.1), retries)
        return redis.Redis.from_url(
            self.url, protocol=protocol, decode_responses=decode, socket_timeout=5, retry=retry
        )

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, signum: signal.Signals) -> None:
        os.kill(self.pid, signum)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Out of memory meanwhile: no command is accepted that may need more."""
        with self.client() as client:
            client.config_set("maxmemory", 1)
            try:
                yield
            finally:
                client.config_set("maxmemory", 0)

    @contextmanager
    def unable_to_save(self) -> Iterator[None]:
        """Meanwhile its snapshots fail, as on a full disk: it refuses all writes (MISCONF)."""
        blocker = self.folder / "dump.rdb"
        with self.client() as client:
            client.config_set("save", "3600 1000000")
            blocker.mkdir()
            try:
                self._save_until(client, "err")
                yield
            finally:
                blocker.rmdir()
                self._save_until(client, "ok")
                client.config_set("save", "")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _argv(self) -> list[str]:
        program, *options = redis_argv(self.port, self.folder)
        return [os.environ.get(OTHER_SERVER, program), *options]

    @staticmethod
    def _save_until(client: redis.Redis, status: str) -> None:
        client.bgsave()
        wait_until(
            lambda: client.info("persistence")["rdb_last_bgsave_status"] == status,
            10,
            f"a snapshot: {status}",
        )

    def _end(self, signum: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signum)
            self._process.wait(10)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
