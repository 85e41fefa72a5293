"""The Lua scripts, each alone, with clients of both protocols."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.support.waiting import wait_until
from worker import streams
from worker.streams import scripts
from worker.streams.keys import front_and_dead, split_lease_id
from worker.streams.levels import LEVELS
from worker.streams.message import Entry, entries_in, fields_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_server import RedisServer

KEYS = streams.QueueKeys("q")
OPTIONS = streams.Options(lease_s=2, max_attempts=2)


@pytest.fixture(
    params=[(2, True), (2, False), (3, True), (3, False)], ids=["2text", "2bytes", "3text", "3bytes"]
)
def any_client(
    request: pytest.FixtureRequest, server: RedisServer, client: redis.Redis
) -> Iterator[redis.Redis]:
    protocol, decode = request.param
    with server.client(protocol=protocol, decode=decode) as connected:
        yield connected


def publish(client: redis.Redis, task_id: str, stream: str = KEYS.main) -> str:
    message = {"body": "", "headers": {"id": task_id}, "properties": {"delivery_info": {}}}
    entry_id: Any = client.xadd(stream, fields_for(message))
    return entry_id.decode() if isinstance(entry_id, bytes) else str(entry_id)


def read(client: redis.Redis, consumer: str = "me") -> Entry | None:
    entries = entries_in(scripts.run(client, scripts.READ, KEYS.readable, [streams.GROUP, consumer]))
    return entries[0] if entries else None


def must_read(client: redis.Redis, consumer: str = "me") -> Entry:
    entry = read(client, consumer)
    assert entry is not None
    return entry


def requeue(client: redis.Redis, entry: Entry, *, counted: bool = True, max_attempts: int = 2) -> str:
    keys = [entry.stream, *front_and_dead(entry.stream)]
    args = [streams.GROUP, entry.entry_id, int(counted), max_attempts, "test"]
    return str(scripts.run(client, scripts.REQUEUE, keys, args)[0])


def ack(client: redis.Redis, lease: str) -> int:
    stream, entry_id = split_lease_id(lease)
    return int(scripts.run(client, scripts.ACK, [stream], [streams.GROUP, entry_id]))


def expire(client: redis.Redis, entry: Entry) -> None:
    """As if the lease had not been renewed for an hour."""
    client.xclaim(entry.stream, streams.GROUP, "silent", 0, [entry.entry_id], idle=3_600_000, justid=True)


def trust(client: redis.Redis) -> None:
    """As if sweeps had come without a gap for an hour."""
    seconds, micros = client.time()
    now_ms = seconds * 1000 + micros // 1000
    client.hset(KEYS.guard, mapping={"last": now_ms, "since": now_ms - 3_600_000})


def test_read_gives_one_entry_the_most_urgent_first(any_client: redis.Redis) -> None:
    publish(any_client, "late")
    publish(any_client, "urgent", KEYS.front)
    first, second = must_read(any_client), must_read(any_client)
    assert (first.stream, second.stream) == (KEYS.front, KEYS.main)
    assert (first.attempt, first.redelivered) == (1, False)
    assert read(any_client) is None


def test_read_makes_the_group_again_after_a_wipe(client: redis.Redis) -> None:
    assert read(client) is None
    client.flushall()
    publish(client, "task")
    assert must_read(client).stream == KEYS.main


def test_every_command_sees_every_level(any_client: redis.Redis) -> None:
    for level in LEVELS:
        publish(any_client, level, KEYS.level(level))
    publish(any_client, "front", KEYS.front)
    numbers = streams.stats(any_client, "q")
    assert numbers.by_level == {"front": 1, "high": 1, "normal": 1, "low": 1}
    assert numbers.waiting == streams.entry_count(any_client, "q") == 4
    assert streams.scan_task_ids(any_client, "q") == {"front", *LEVELS}
    entries = [must_read(any_client) for _ in range(4)]
    assert [entry.stream for entry in entries] == list(KEYS.readable)
    for entry in entries:
        expire(any_client, entry)
    trust(any_client)
    assert {lost.task_id for lost in streams.sweep(any_client, ["q"], OPTIONS)} == {"front", *LEVELS}
    assert streams.stats(any_client, "q").by_level == {"front": 4, "high": 0, "normal": 0, "low": 0}


def test_a_blocking_read_may_give_two_entries(any_client: redis.Redis) -> None:
    read(any_client)
    publish(any_client, "one", KEYS.front)
    publish(any_client, "two")
    command = ["XREADGROUP", "GROUP", streams.GROUP, "me", "COUNT", 1, "BLOCK", 10, "STREAMS", *KEYS.readable]
    connection = any_client.connection_pool.get_connection()
    try:
        connection.send_command(*command, *[">"] * len(KEYS.readable))
        entries = entries_in(connection.read_response())
        connection.send_command(*command, *[">"] * len(KEYS.readable))
        nothing = entries_in(connection.read_response())
    finally:
        any_client.connection_pool.release(connection)
    assert [entry.stream for entry in entries] == [KEYS.front, KEYS.main]
    assert nothing == []


def test_moving_an_entry_has_one_winner(client: redis.Redis, server: RedisServer) -> None:
    publish(client, "task")
    entry = must_read(client)
    outcomes: list[str] = []

    def give_back() -> None:
        with server.client() as own:
            outcomes.append(requeue(own, entry))

    threads = [threading.Thread(target=give_back) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["gone"] * 7 + ["requeued"]
    assert streams.entry_count(client, "q") == 1


def test_requeue_counts_attempts_and_buries_the_last(client: redis.Redis) -> None:
    publish(client, "task")
    assert requeue(client, must_read(client), counted=False) == "requeued"
    again = must_read(client)
    assert (again.attempt, again.redelivered, again.stream) == (1, True, KEYS.front)
    assert requeue(client, again) == "requeued"
    last = must_read(client)
    assert last.attempt == 2
    assert requeue(client, last) == "dead"
    assert streams.entry_count(client, "q") == 0
    assert streams.stats(client, "q").dead == 1


@pytest.mark.parametrize(("target", "max_attempts"), [(KEYS.front, 2), (KEYS.dead, 1)])
def test_a_move_that_is_refused_changes_nothing(client: redis.Redis, target: str, max_attempts: int) -> None:
    publish(client, "task")
    entry = must_read(client)
    client.set(target, "a stranger's")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        requeue(client, entry, max_attempts=max_attempts)
    assert streams.lease_held(client, entry.lease_id)
    client.delete(target)
    assert requeue(client, entry, max_attempts=max_attempts) in {"requeued", "dead"}
    assert client.xlen(target) == 1


def test_a_full_server_moves_nothing_and_loses_nothing(client: redis.Redis, server: RedisServer) -> None:
    publish(client, "expired")
    publish(client, "given back")
    publish(client, "dead", KEYS.dead)
    expired, given_back = must_read(client), must_read(client)
    (dead,) = streams.list_dead(client, "q")
    expire(client, expired)
    trust(client)
    with server.full():
        for write in (
            lambda: publish(client, "refused"),
            lambda: streams.sweep(client, ["q"], OPTIONS),
            lambda: requeue(client, given_back),
            lambda: streams.replay_dead(client, "q", dead.entry_id),
        ):
            with pytest.raises(redis.OutOfMemoryError):
                write()
    assert streams.scan_task_ids(client, "q") == {"expired", "given back", "dead"}
    assert requeue(client, given_back) == "requeued"
    assert [lost.task_id for lost in streams.sweep(client, ["q"], OPTIONS)] == ["expired"]
    assert streams.replay_dead(client, "q", dead.entry_id)


def test_a_full_server_lets_workers_read_renew_and_acknowledge(
    client: redis.Redis, server: RedisServer
) -> None:
    """None of these takes memory that counts, and acknowledging is what makes room."""
    read(client)
    publish(client, "task")
    with server.full():
        entry = must_read(client)
        assert client.xclaim(entry.stream, streams.GROUP, "me", 0, [entry.entry_id], justid=True)
        assert ack(client, entry.lease_id) == 1


def test_what_was_deleted_while_it_was_leased_is_let_go(client: redis.Redis) -> None:
    publish(client, "task")
    entry = must_read(client)
    client.xdel(entry.stream, entry.entry_id)
    assert requeue(client, entry) == "gone"
    assert streams.stats(client, "q") == streams.QueueStats(0, 0, 0, None)


def test_ack_ends_a_lease_once(client: redis.Redis) -> None:
    publish(client, "task")
    lease = must_read(client).lease_id
    assert streams.lease_held(client, lease)
    assert (ack(client, lease), ack(client, lease)) == (1, 0)
    assert not streams.lease_held(client, lease)


def test_a_reclaimed_lease_can_be_neither_renewed_nor_acknowledged(client: redis.Redis) -> None:
    publish(client, "task")
    entry = must_read(client)
    requeue(client, entry)
    assert client.xclaim(entry.stream, streams.GROUP, "me", 0, [entry.entry_id], justid=True) == []
    assert ack(client, entry.lease_id) == 0
    assert not streams.lease_held(client, entry.lease_id)
    assert streams.entry_count(client, "q") == 1


def test_sweep_reclaims_only_what_expired(any_client: redis.Redis) -> None:
    publish(any_client, "silent")
    publish(any_client, "alive")
    silent = must_read(any_client)
    alive = must_read(any_client)
    expire(any_client, silent)
    trust(any_client)
    (lost,) = streams.sweep(any_client, ["q"], OPTIONS)
    assert (lost.task_id, lost.entry_id, lost.consumer) == ("silent", silent.entry_id, "silent")
    assert (lost.outcome, lost.attempts) == ("requeued", 1)
    assert lost.message["headers"] == {"id": "silent"}
    assert streams.lease_held(any_client, alive.lease_id)
    assert streams.sweep(any_client, ["q"], OPTIONS) == []


def test_concurrent_sweeps_reclaim_everything_once_and_in_order(
    client: redis.Redis, server: RedisServer
) -> None:
    ids = [publish(client, str(number)) for number in range(250)]
    for _ in ids:
        expire(client, must_read(client))
    trust(client)
    lost: list[streams.Reclaimed] = []

    def sweep_all() -> None:
        with server.client() as own:
            while batch := streams.sweep(own, ["q"], OPTIONS):
                lost.extend(batch)

    threads = [threading.Thread(target=sweep_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(each.task_id) for each in lost) == list(range(250))
    front = [fields["m"] for _, fields in client.xrange(KEYS.front)]
    assert [f'"id": "{number}"' in message for number, message in enumerate(front)] == [True] * 250


def test_the_first_sweeps_are_careful_and_so_are_those_after_a_gap(client: redis.Redis) -> None:
    publish(client, "task")
    expire(client, must_read(client))
    assert streams.sweep(client, ["q"], OPTIONS) == []  # nobody swept before
    trust(client)
    client.hincrby(KEYS.guard, "last", -int(OPTIONS.max_sweep_gap_s * 1000) - 100)
    assert streams.sweep(client, ["q"], OPTIONS) == []
    # Only a whole lease of sweeps without a gap makes them trusted.
    assert wait_until(lambda: streams.sweep(client, ["q"], OPTIONS), 5, "the guard to be satisfied")


def test_sweep_forgets_only_consumers_without_leases(client: redis.Redis) -> None:
    publish(client, "task")
    must_read(client, "busy")
    # By name, since Redis before 7.2 makes no consumer of a read that finds nothing.
    client.xgroup_createconsumer(KEYS.main, streams.GROUP, "idle")
    args = [streams.GROUP, 2000, 1000, 100, 3]
    trust(client)
    wait_until(lambda: client.xinfo_consumers(KEYS.main, streams.GROUP)[1]["idle"] > 1, 5, "a millisecond")
    scripts.run(client, scripts.SWEEP, [KEYS.guard, KEYS.dead, *KEYS.readable], [*args, 1])
    assert [row["name"] for row in client.xinfo_consumers(KEYS.main, streams.GROUP)] == ["busy"]


def test_purge_leaves_what_is_worked_on(client: redis.Redis) -> None:
    for number in range(5):
        publish(client, str(number))
    lease = must_read(client).lease_id
    assert scripts.run(client, scripts.PURGE, [KEYS.main], [streams.GROUP, 3]) == 3
    assert scripts.run(client, scripts.PURGE, [KEYS.main], [streams.GROUP, 3]) == 1
    assert scripts.run(client, scripts.PURGE, ["absent"], [streams.GROUP, 3]) == 0
    assert streams.lease_held(client, lease)


def test_stats_of_nothing_and_of_something(any_client: redis.Redis) -> None:
    assert streams.stats(any_client, "q") == streams.QueueStats(0, 0, 0, None)
    publish(any_client, "one")
    publish(any_client, "two")
    waiting = streams.stats(any_client, "q")
    assert (waiting.waiting, waiting.in_flight) == (2, 0)
    assert waiting.oldest_waiting_s is not None
    must_read(any_client)
    must_read(any_client)
    assert streams.stats(any_client, "q") == streams.QueueStats(0, 2, 0, None)
    assert streams.entry_count(any_client, "q") == 2


def test_scan_finds_every_task(any_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.streams.counting.SCAN_BATCH", 2)
    for number in range(5):
        publish(any_client, f"main{number}")
    publish(any_client, "front", KEYS.front)
    publish(any_client, "dead", KEYS.dead)
    found = streams.scan_task_ids(any_client, "q")
    assert found == {"front", "dead", *(f"main{number}" for number in range(5))}


def test_dead_letters_come_until_they_are_handled(any_client: redis.Redis) -> None:
    assert list(streams.unhandled_dead(any_client, "q")) == []
    for task_id in ("one", "two", "three"):
        publish(any_client, task_id)
        requeue(any_client, must_read(any_client), max_attempts=1)
    for _crash in range(2):
        assert [dead.task_id for dead in streams.unhandled_dead(any_client, "q")] == ["one", "two", "three"]
    one, two, three = streams.unhandled_dead(any_client, "q")
    streams.mark_handled(any_client, "q", one)
    assert streams.drop_dead(any_client, "q", two.entry_id)
    any_client.xdel(KEYS.dead, three.entry_id)  # by hand, while the reaper has it
    assert list(streams.unhandled_dead(any_client, "q")) == []
    assert [dead.task_id for dead in streams.list_dead(any_client, "q")] == ["one"]  # kept for the operator
    assert streams.list_dead(any_client, "q", after=one.entry_id) == []


def test_a_dead_letter_is_replayed_once_with_fresh_attempts(client: redis.Redis) -> None:
    publish(client, "task")
    requeue(client, must_read(client), max_attempts=1)
    (dead,) = streams.list_dead(client, "q")
    assert streams.replay_dead(client, "q", dead.entry_id)
    assert not streams.replay_dead(client, "q", dead.entry_id)
    again = must_read(client)
    assert (again.attempt, again.redelivered) == (1, True)
    assert streams.stats(client, "q").dead == 0


def test_a_replay_that_is_refused_keeps_the_dead_letter(client: redis.Redis) -> None:
    publish(client, "dead", KEYS.dead)
    (dead,) = streams.list_dead(client, "q")
    client.set(KEYS.front, "a stranger's")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        streams.replay_dead(client, "q", dead.entry_id)
    assert streams.list_dead(client, "q") == [dead]


def test_tasks_that_are_unwanted_leave_the_queue(
    any_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.streams.counting.SCAN_BATCH", 2)
    for number, stream in enumerate([KEYS.main, KEYS.main, KEYS.main, KEYS.front, KEYS.level("high")]):
        publish(any_client, f"t{number}", stream)
    any_client.xadd(KEYS.main, {"m": "no message"})
    dropped = streams.drop_tasks(any_client, "q", lambda task_ids: task_ids & {"t0", "t2", "t3", "t9"})
    assert dropped == {"t0", "t2", "t3"}
    assert streams.scan_task_ids(any_client, "q") == {"t1", "t4", ""}
    assert streams.entry_count(any_client, "q") == 3
