"""The client in both its forms, a stack for the whole room, and servers that misbehave."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from anyio.from_thread import start_blocking_portal

from gateway.client import AsyncClient, Client, RetryPolicy
from tests.client.rogue import Rogue
from tests.client.stub import Stub
from tests.support.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anyio.from_thread import BlockingPortal

EAGER = RetryPolicy(first_s=0.01, longest_s=0.05)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with one worker; its engine takes a second for a minute of sound."""
    script = json.dumps({"speed": 60})
    settings = {"ENGINE": "simulated", "SIMULATED_SCRIPT": script}
    service = Service(tmp_path_factory.mktemp("stack"), settings)
    try:
        service.start_all()
        yield service
    finally:
        service.end()


@pytest.fixture
def url(stack: Service) -> str:
    return f"http://127.0.0.1:{stack.port}"


class Driven:
    """An AsyncClient whose methods can be called as those of a Client."""

    def __init__(self, portal: BlockingPortal, *args: Any, **options: Any) -> None:
        self._portal = portal
        self._client = AsyncClient(*args, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **options: self._portal.call(partial(method, *args, **options))

    def jobs(self, *args: Any) -> list[Any]:
        async def gather() -> list[Any]:
            return [job async for job in self._client.jobs(*args)]

        return list(self._portal.call(gather))

    def close(self) -> None:
        self._portal.call(self._client.aclose)

    def __repr__(self) -> str:
        return repr(self._client)


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as running:
        yield running


@pytest.fixture(params=["blocking", "nonblocking"])
def connect(request: pytest.FixtureRequest, portal: BlockingPortal) -> Iterator[Callable[..., Any]]:
    """Makes a client of either form, which the test's end closes."""
    made: list[Any] = []

    def make(*args: Any, **options: Any) -> Any:
        options.setdefault("retry", EAGER)
        made.append(
            Client(*args, **options) if request.param == "blocking" else Driven(portal, *args, **options)
        )
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def rogue() -> Iterator[Callable[..., Rogue]]:
    started: list[Rogue] = []

    def start(*steps: Any) -> Rogue:
        started.append(Rogue(*steps))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    yield server
    server.stop()
