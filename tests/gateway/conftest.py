"""Gateways as real processes, on a Redis server that jobs are put into by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.gateway.jobs import MIB, Jobs, started
from worker.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.service import Service


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = started(tmp_path_factory.mktemp("gateway"))
    yield service
    service.end()


@pytest.fixture
def served(shared: Service) -> Service:
    """A gateway with usual settings; no job is left in it."""
    with shared.redis.client() as client:
        client.flushall()
    return shared


@pytest.fixture
def jobs(served: Service) -> Iterator[Jobs]:
    with served.redis.client() as client:
        yield Jobs(client, Cache(served.cache))


@pytest.fixture(scope="session")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A gateway that takes recordings of up to a MiB, and lets two jobs wait."""
    service = started(tmp_path_factory.mktemp("limited"), MAX_UPLOAD_BYTES=str(MIB), MAX_WAITING_JOBS="2")
    yield service
    service.end()


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Service]:
    """A gateway and a Redis server to break."""
    service = started(tmp_path)
    yield service
    service.end()


@pytest.fixture
def guarded(shared_guarded: Service) -> Service:
    """A gateway that knows alice, bob and an operator; which keys are whose, each module says."""
    with shared_guarded.redis.client() as client:
        client.flushall()
    return shared_guarded


@pytest.fixture
def theirs(guarded: Service) -> Iterator[Jobs]:
    with guarded.redis.client() as client:
        yield Jobs(client, Cache(guarded.cache))
