"""Servers and clusters: one that is shared, and one for tests that break theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.streams.cluster import Cluster
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    started = RedisServer(tmp_path_factory.mktemp("server")).start()
    yield started
    started.stop()


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    """A client on an empty database."""
    with server.client() as connected:
        connected.flushall()
        yield connected


@pytest.fixture
def cluster(server: RedisServer, client: redis.Redis, tmp_path: Path) -> Iterator[Cluster]:
    """No workers yet, on the shared server."""
    made = Cluster(server, tmp_path)
    yield made
    made.close()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster on a server of its own, for tests that stop or freeze it."""
    own = RedisServer(tmp_path / "server").start()
    made = Cluster(own, tmp_path)
    yield made
    made.close()
    own.stop()
