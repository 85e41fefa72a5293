"""Celery's contract, on one worker that all these tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery import chain, chord, group

from tests.streams.cluster import QUEUE, Cluster
from worker import streams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def cluster(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with server.client() as client:
        client.flushall()
    made = Cluster(server, tmp_path_factory.mktemp("cluster"))
    made.start_worker()
    yield made
    made.close()


def test_a_task_runs_once_and_leaves_nothing_behind(cluster: Cluster) -> None:
    result = cluster.send("work", 0, {"text": "ünïcode"})
    assert cluster.wait_success(result) == {"text": "ünïcode"}
    assert len(cluster.starts(result)) == 1
    cluster.wait_empty()
    keys = streams.QueueKeys(QUEUE)
    assert not any(cluster.client.xlen(stream) for stream in (*keys.readable, keys.dead))


def test_the_task_knows_its_attempt_and_its_lease(cluster: Cluster) -> None:
    result = cluster.send("work", 1)
    start = cluster.wait_start(result)
    assert start["attempt"] == 1
    assert start["lease"].endswith("@q:{celery}:main")
    assert streams.lease_held(cluster.client, start["lease"])
    cluster.wait_success(result)
    cluster.wait_empty()
    assert not streams.lease_held(cluster.client, start["lease"])


def test_retry_with_countdown_is_a_new_delivery(cluster: Cluster) -> None:
    result = cluster.send("flaky")
    assert cluster.wait_success(result) == 1
    first, second = cluster.starts(result)
    assert second["at"] - first["at"] >= 1
    assert second["lease"] != first["lease"]
    assert second["attempt"] == 1  # a retry is the application's own count
    cluster.wait_empty()


def test_chain_group_and_chord(cluster: Cluster) -> None:
    add, total = cluster.app.signature("add"), cluster.app.signature("total")
    in_a_row = chain(add.clone((1, 2)), add.clone((3,)), app=cluster.app).apply_async()
    side_by_side = group([add.clone((n, n)) for n in range(4)], app=cluster.app).apply_async()
    gathered = chord([add.clone((n,)) for n in range(4)], total, app=cluster.app).apply_async()
    cluster.wait(lambda: in_a_row.ready() and side_by_side.ready() and gathered.ready(), 20, "all results")
    assert (in_a_row.result, side_by_side.results[3].result, gathered.result) == (6, 6, 6)


def test_countdown_is_kept_under_a_renewed_lease(cluster: Cluster) -> None:
    result = cluster.send("work", countdown=3)  # longer than the lease
    cluster.wait(lambda: _stats(cluster).in_flight == 1, 5, "the worker to hold it")
    assert cluster.wait_success(result) == "done"
    assert [start["attempt"] for start in cluster.starts(result)] == [1]


def test_expired_and_unknown_tasks_end(cluster: Cluster) -> None:
    expired = cluster.send("work", expires=-1)
    cluster.send("no-such-task")
    cluster.wait(lambda: expired.state == "REVOKED", 10, "the expired task to be revoked")
    cluster.wait_empty()
    assert not cluster.starts(expired)


def test_revoke_with_terminate_kills_and_acknowledges(cluster: Cluster) -> None:
    result = cluster.send("work", 60)
    cluster.wait_start(result)
    result.revoke(terminate=True, signal="SIGKILL")
    cluster.wait(lambda: result.state == "REVOKED", 10, "the task to be revoked")
    cluster.wait_empty()
    assert not cluster.ends(result)


def test_revoke_of_a_waiting_task_keeps_it_from_running(cluster: Cluster) -> None:
    running = cluster.send("work", 1)
    cluster.wait_start(running)
    waiting = cluster.send("work")
    waiting.revoke()
    cluster.wait(lambda: waiting.state == "REVOKED", 10, "the task to be revoked")
    assert not cluster.starts(waiting)
    cluster.wait_success(running)


def test_time_limit_ends_the_task_for_good(cluster: Cluster) -> None:
    result = cluster.send("work", 60, time_limit=1)
    cluster.wait(lambda: result.state == "FAILURE", 15, "the time limit")
    cluster.wait_empty()
    assert len(cluster.starts(result)) == 1


def test_inspect_count_and_purge_while_a_task_runs(cluster: Cluster) -> None:
    running = cluster.send("work", 3)
    start = cluster.wait_start(running)
    for _ in range(4):
        cluster.send("work")
    numbers = _stats(cluster)
    assert (numbers.waiting, numbers.in_flight, numbers.dead) == (4, 1, 0)
    assert numbers.oldest_waiting_s is not None

    inspect = cluster.app.control.inspect(timeout=5, limit=1)
    (active,) = inspect.active().values()
    assert [request["id"] for request in active] == [running.id]
    assert inspect.reserved() == {"one@test": []}
    assert inspect.active_queues()["one@test"][0]["name"] == QUEUE
    assert inspect.stats()["one@test"]["total"]["work"] >= 1

    assert _declared_length(cluster) == 4
    assert cluster.app.control.purge() == 4
    assert streams.lease_held(cluster.client, start["lease"])
    cluster.wait_success(running)
    cluster.wait_empty()


def test_a_queue_is_cancelled_and_added_again(cluster: Cluster) -> None:
    control = cluster.app.control
    assert control.cancel_consumer(QUEUE, reply=True, timeout=5, limit=1)
    result = cluster.send("work")
    control.add_consumer("other", reply=True, timeout=5, limit=1)
    other = cluster.send("work", queue="other")
    cluster.wait_success(other)
    assert not cluster.starts(result)
    control.cancel_consumer("other", reply=True, timeout=5, limit=1)
    control.add_consumer(QUEUE, reply=True, timeout=5, limit=1)
    cluster.wait_success(result)
    cluster.wait_empty()


def test_a_redelivered_task_whose_result_is_stored_does_not_run_again(cluster: Cluster) -> None:
    """A crash between the result and the acknowledgement."""
    result = cluster.send("work")
    cluster.wait_success(result)
    cluster.wait_empty()
    cluster.gate.touch()
    cluster.send("work", task_id=result.id)
    _give_back_the_only_entry(cluster)
    cluster.gate.unlink()
    cluster.wait_empty()
    assert len(cluster.starts(result)) == 1


def test_a_strangers_entry_becomes_a_dead_letter(cluster: Cluster) -> None:
    cluster.client.xadd(streams.QueueKeys(QUEUE).main, {"hello": "world"})
    cluster.wait(lambda: _stats(cluster).dead == 1, 10, "the entry to be buried")
    (dead,) = streams.list_dead(cluster.client, QUEUE)
    assert "holds no message" in dead.why
    assert streams.drop_dead(cluster.client, QUEUE, dead.entry_id)
    cluster.wait_success(cluster.send("work"))


def test_no_work_while_the_gate_is_closed(cluster: Cluster) -> None:
    cluster.wait_success(cluster.send("work"))
    cluster.gate.touch()
    result = cluster.send("work")
    cluster.wait(lambda: _stats(cluster).waiting == 1, 5, "the entry to wait")
    # A read that was under way when the gate closed ends within a second; what it got is put back.
    cluster.wait(lambda: _age_of_oldest(cluster) > 1.5, 10, "the entry to wait for longer than a read")
    assert not cluster.starts(result)
    cluster.gate.unlink()
    cluster.wait_success(result)
    assert [start["attempt"] for start in cluster.starts(result)] == [1]


def _stats(cluster: Cluster) -> streams.QueueStats:
    return streams.stats(cluster.client, QUEUE)


def _age_of_oldest(cluster: Cluster) -> float:
    return _stats(cluster).oldest_waiting_s or 0


def _declared_length(cluster: Cluster) -> int:
    with cluster.app.connection_for_read() as connection, connection.channel() as channel:
        return int(channel.queue_declare(QUEUE, passive=True).message_count)


def _give_back_the_only_entry(cluster: Cluster) -> None:
    with cluster.app.connection_for_read() as connection, connection.channel() as channel:
        # A worker's read that was under way has it first, and puts it back.
        cluster.wait(lambda: channel.basic_get(QUEUE) is not None, 5, "the entry to be there")
        # Closing the channel gives it back.
