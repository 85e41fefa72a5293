"""What the Redis user of ops/start-redis.sh may not do; that it may enough, tests/compose shows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from ops.stack import free_port, redis_argv
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PASSWORD = "of-a-test"  # noqa: S105
FORBIDDEN = [
    "CONFIG GET dir",
    "CONFIG SET maxmemory 1",
    "FLUSHALL",
    "FLUSHDB",
    "KEYS *",
    "SHUTDOWN NOSAVE",
    "REPLICAOF 127.0.0.1 1",
    "ACL LIST",
    "CLIENT LIST",
    "MONITOR",
    "SAVE",
    "BGREWRITEAOF",
    "MIGRATE 127.0.0.1 1 k 0 1",
    "RESTORE k 0 x",
]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server with the script's users."""
    folder = tmp_path_factory.mktemp("rights")
    lines = re.findall(r"^user .*$", (ROOT / "ops/start-redis.sh").read_text(), re.MULTILINE)
    (folder / "users.acl").write_text("\n".join(lines).replace("$REDIS_PASSWORD", PASSWORD) + "\n")
    made = free_port()
    server = subprocess.Popen(
        [*redis_argv(made, folder), "--aclfile", str(folder / "users.acl")], stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: _answers(made), 10, "the server to answer")
        yield made
    finally:
        server.kill()
        server.wait(10)


def _answers(port: int) -> bool:
    try:
        with as_service(port) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def as_service(port: int) -> redis.Redis:
    return redis.Redis(port=port, username="service", password=PASSWORD, decode_responses=True)


@pytest.mark.parametrize("command", FORBIDDEN)
def test_the_service_may_not(port: int, command: str) -> None:
    with as_service(port) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())


@pytest.mark.parametrize("password", [None, "wrong"])
def test_nobody_else_may_anything(port: int, password: str | None) -> None:
    with redis.Redis(port=port, password=password) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_it_may_ask_for_what_celery_asks(port: int) -> None:
    with as_service(port) as client:
        assert client.info("server")["redis_version"]
        assert client.set("k", "v")
        assert client.eval("return redis.call('GET', KEYS[1])", 1, "k") == "v"
