"""The lease keeper alone, against a server that comes and goes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.streams.test_scripts import KEYS, OPTIONS, must_read, publish, requeue
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from worker import streams
from worker.streams.keepers import keeper_for
from worker.streams.leases import LeaseKeeper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

    from worker.streams.message import Entry


class Lost(list[str]):
    """Lost leases as they are reported; each is said to be stopped only at the second report."""

    def __call__(self, lease_id: str) -> bool:
        self.append(lease_id)
        return self.count(lease_id) > 1


@pytest.fixture
def lost() -> Lost:
    return Lost()


@pytest.fixture
def keeper(server: RedisServer, client: redis.Redis, lost: Lost) -> Iterator[LeaseKeeper]:
    made = LeaseKeeper(server.client(), OPTIONS, lost)
    yield made
    made.close()


def take(client: redis.Redis, keeper: LeaseKeeper, task_id: str = "task") -> Entry:
    publish(client, task_id)
    entry = must_read(client, keeper.consumer)
    keeper.add(entry.lease_id)
    return entry


def idle_ms(client: redis.Redis, entry: Entry) -> int:
    pending = client.xpending_range(entry.stream, streams.GROUP, entry.entry_id, entry.entry_id, 1)
    return int(pending[0]["time_since_delivered"])


def deliveries(client: redis.Redis, entry: Entry) -> int:
    pending = client.xpending_range(entry.stream, streams.GROUP, entry.entry_id, entry.entry_id, 1)
    return int(pending[0]["times_delivered"])


def test_leases_are_renewed_without_counting_as_deliveries(client: redis.Redis, keeper: LeaseKeeper) -> None:
    entry = take(client, keeper)
    wait_until(lambda: idle_ms(client, entry) > 300, 5, "the lease to age")
    wait_until(lambda: idle_ms(client, entry) < 300, 5, "the lease to be renewed")
    assert deliveries(client, entry) == 1


def test_a_lost_lease_is_reported_until_it_is_dealt_with(
    client: redis.Redis, keeper: LeaseKeeper, lost: Lost
) -> None:
    entry = take(client, keeper)
    requeue(client, entry)
    wait_until(lambda: len(lost) == 2, 5, "two reports")
    assert not keeper.holds(entry.lease_id)
    keeper.ack(entry.lease_id)  # too late, and harmless
    assert streams.entry_count(client, "q") == 1
    wait_until(lambda: len(lost) == 2, 1, "no third report")


def test_a_wipe_loses_every_lease(client: redis.Redis, keeper: LeaseKeeper, lost: Lost) -> None:
    entry = take(client, keeper)
    client.flushall()
    wait_until(lambda: entry.lease_id in lost, 5, "the loss to be noticed")


@pytest.mark.parametrize("end", ["ack", "give_back", "bury"])
def test_what_cannot_be_said_is_said_later(tmp_path: Path, lost: Lost, end: str) -> None:
    server = RedisServer(tmp_path).start()
    client = server.client()
    keeper = LeaseKeeper(server.client(), OPTIONS, lost)
    entry = take(client, keeper)
    server.kill()
    {
        "ack": lambda: keeper.ack(entry.lease_id),
        "give_back": lambda: keeper.give_back(entry.lease_id, counted=False, why="test"),
        "bury": lambda: keeper.bury(entry.lease_id, "test"),
    }[end]()
    server.start()
    wait_until(lambda: not streams.lease_held(client, entry.lease_id), 5, "the lease to end")
    numbers = streams.stats(client, "q")
    assert (numbers.waiting, numbers.dead) == {"ack": (0, 0), "give_back": (1, 0), "bury": (0, 1)}[end]
    assert lost == []
    keeper.close()
    client.close()
    server.stop()


@pytest.mark.parametrize("end", ["give_back", "bury"])
def test_what_a_full_server_refuses_is_said_later(
    server: RedisServer, client: redis.Redis, keeper: LeaseKeeper, end: str
) -> None:
    entry = take(client, keeper)
    with server.full():
        if end == "bury":
            keeper.bury(entry.lease_id, "test")
        else:
            keeper.give_back(entry.lease_id, counted=True, why="test")
        assert streams.lease_held(client, entry.lease_id)
    wait_until(lambda: not streams.lease_held(client, entry.lease_id), 5, "the lease to end")
    numbers = streams.stats(client, "q")
    assert (numbers.waiting, numbers.dead) == {"give_back": (1, 0), "bury": (0, 1)}[end]


def test_a_failing_callback_does_not_stop_the_renewals(server: RedisServer, client: redis.Redis) -> None:
    calls: list[str] = []

    def fail(lease_id: str) -> bool:
        calls.append(lease_id)
        raise RuntimeError(lease_id)

    keeper = LeaseKeeper(server.client(), OPTIONS, fail)
    gone, kept = take(client, keeper), take(client, keeper)
    requeue(client, gone)
    wait_until(lambda: len(calls) > 2, 10, "the callback to be tried again and again")
    assert set(calls) == {gone.lease_id}
    assert idle_ms(client, kept) < OPTIONS.lease_s * 1000 / 2
    keeper.close()


def test_a_process_has_one_keeper_for_each_server(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.streams.keepers._keepers", {})
    parameters = {"host": "127.0.0.1", "port": server.port, "db": 0}
    parent = keeper_for(parameters, OPTIONS)
    assert keeper_for(dict(parameters), OPTIONS) is parent
    assert keeper_for({**parameters, "db": 1}, OPTIONS) is not parent
    monkeypatch.setattr("os.getpid", lambda: parent.pid + 1)  # in a forked child
    assert keeper_for(parameters, OPTIONS) is not parent
    assert os.getpid() != parent.pid


def test_leases_of_no_group_and_of_no_stream_are_not_held(client: redis.Redis) -> None:
    assert not streams.lease_held(client, "1-1@q:{q}:main")
    client.xadd(KEYS.main, {"m": "{}"})
    assert not streams.lease_held(client, "1-1@q:{q}:main")
