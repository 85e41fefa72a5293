"""Workers and children that are killed, frozen or told to stop, while they hold a job."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.streams.cluster import QUEUE, Cluster
from tests.streams.sample_app import LEASE_S
from worker import streams

if TYPE_CHECKING:
    from pathlib import Path

    import redis
    from celery.result import AsyncResult

    from tests.streams.cluster import Worker
    from tests.support.redis_server import RedisServer


def test_a_job_longer_than_its_lease_runs_once(cluster: Cluster) -> None:
    cluster.start_workers("one", "two")
    result = cluster.send("work", 2.5 * LEASE_S)
    cluster.wait_success(result)
    cluster.wait_empty()
    assert len(cluster.starts(result)) == 1


def test_a_killed_workers_job_is_reclaimed_by_another_worker(cluster: Cluster) -> None:
    workers = _start_two(cluster)
    result = cluster.send("work", 2)
    start = cluster.wait_start(result)
    workers[start["worker"]].kill()
    second = cluster.wait_start(result, 2)
    assert second["worker"] != start["worker"]
    assert second["attempt"] == 2
    assert second["lease"].endswith(":front")
    cluster.wait_success(result)
    cluster.wait_empty()
    assert len(cluster.ends(result)) == 1  # the killed worker's child died with it


def test_a_countdown_survives_the_death_of_the_worker_that_holds_it(cluster: Cluster) -> None:
    holder = cluster.start_worker("one")
    due = time.time() + 6
    result = cluster.send("work", countdown=6)
    cluster.wait(lambda: streams.stats(cluster.client, QUEUE).in_flight == 1, 5, "the worker to hold it")
    holder.kill()
    cluster.start_worker("two")
    assert cluster.wait_success(result) == "done"
    (start,) = cluster.starts(result)
    assert start["worker"] == "two@test"
    assert time.time() >= due


def test_sweep_alone_reclaims(server: RedisServer, client: redis.Redis, tmp_path: object) -> None:
    cluster = Cluster(server, tmp_path, sweep=False)
    try:
        worker = cluster.start_worker("one")
        result = cluster.send("work", 60)
        start = cluster.wait_start(result)
        worker.kill()
        options = streams.Options(lease_s=LEASE_S)
        (lost,) = cluster.wait(lambda: streams.sweep(client, [QUEUE], options), 10, "the lease to expire")
        assert (lost.task_id, lost.outcome, lost.attempts) == (result.id, "requeued", 1)
        assert start["lease"] == f"{lost.entry_id}@{streams.QueueKeys(QUEUE).main}"
        assert str(worker.popen.pid) in lost.consumer
        assert lost.idle_ms >= LEASE_S * 1000
        assert streams.sweep(client, [QUEUE], options) == []
        cluster.start_worker("two")
        assert cluster.wait_start(result, 2)["attempt"] == 2
    finally:
        cluster.close()


def test_a_job_that_kills_its_child_is_a_dead_letter_after_three_attempts(cluster: Cluster) -> None:
    cluster.start_worker()
    poison = cluster.send("die")
    after = cluster.send("work")
    cluster.wait(lambda: streams.stats(cluster.client, QUEUE).dead, 40, "the dead letter")
    assert [start["attempt"] for start in cluster.starts(poison)] == [1, 2, 3]
    cluster.wait_success(after)

    (dead,) = streams.unhandled_dead(cluster.client, QUEUE)
    assert (dead.task_id, dead.attempts) == (poison.id, 3)
    assert dead.why == "worker one@test: Worker exited prematurely: signal 9 (SIGKILL)"
    assert dead.lease_id == cluster.starts(poison)[-1]["lease"]


def test_a_job_is_tried_again_where_no_results_are_kept(cluster: Cluster) -> None:
    worker = cluster.start_worker(result_backend="disabled://")
    result = cluster.send("work", 1)
    cluster.wait_start(result)
    worker.child().kill()
    cluster.wait(lambda: cluster.ends(result), 15, "the second attempt to end")
    cluster.wait_empty()


@pytest.mark.parametrize(
    ("task", "args", "why"),
    [
        ("leave", (3, "os"), "Worker exited prematurely: exitcode 3"),
        ("leave", (3, "sys"), "Worker exited prematurely: exitcode 3"),
        ("refuse", ("no room",), "rejected: no room"),
    ],
)
def test_a_dead_letter_tells_why_its_attempt_ended(
    server: RedisServer, client: redis.Redis, tmp_path: Path, task: str, args: tuple[Any, ...], why: str
) -> None:
    cluster = Cluster(server, tmp_path, max_attempts=1)
    try:
        worker = cluster.start_worker()
        cluster.send(task, *args)
        cluster.wait(lambda: streams.stats(client, QUEUE).dead, 20, "the dead letter")
        (dead,) = streams.list_dead(client, QUEUE)
        assert dead.why == f"worker one@test: {why}"
        assert f"dead ({dead.why})" in worker.log
    finally:
        cluster.close()


def test_an_owner_that_was_frozen_past_its_lease_does_not_end_the_job(cluster: Cluster) -> None:
    """The fence: its child is killed as soon as it wakes and finds the lease lost."""
    workers = _start_two(cluster)
    result = cluster.send("work", 2 * LEASE_S)
    start = cluster.wait_start(result)
    frozen = workers[start["worker"]]
    frozen.signal(signal.SIGSTOP)  # the parent alone: its child works on
    cluster.wait_start(result, 2)
    frozen.signal(signal.SIGCONT)
    cluster.wait(lambda: "killing the attempt" in frozen.log, 5, "the frozen worker to kill its child")
    cluster.wait_success(result)
    cluster.wait_empty()
    (end,) = cluster.ends(result)
    assert end["attempt"] == 2
    # The frozen worker goes on, with a new child.
    later = [cluster.send("work", 1) for _ in range(2)]
    for each in later:
        cluster.wait_success(each)
    assert {start["worker"] for each in later for start in cluster.starts(each)} == set(workers)


def test_a_job_that_was_sent_to_a_frozen_reader_is_not_lost(cluster: Cluster) -> None:
    """The server gives it to a blocking read whose client never reads the reply."""
    frozen = cluster.start_worker("one")
    result = _freeze_with_a_job_unread(cluster, frozen)
    frozen.kill()
    cluster.start_worker("two")
    assert cluster.wait_success(result) == "done"
    assert len(cluster.starts(result)) == 1


def test_a_reader_that_wakes_late_does_not_start_what_others_have(cluster: Cluster) -> None:
    """Its reply lay unread in the socket while the lease expired."""
    frozen = cluster.start_worker("one")
    result = _freeze_with_a_job_unread(cluster, frozen)
    cluster.start_worker("two")
    start = cluster.wait_start(result)
    frozen.signal(signal.SIGCONT)
    cluster.wait_success(result)
    cluster.wait_empty()
    assert cluster.starts(result) == [start]
    assert (start["worker"], start["attempt"]) == ("two@test", 2)


def test_warm_shutdown_finishes_the_job(cluster: Cluster) -> None:
    worker = cluster.start_worker()
    result = cluster.send("work", 1.5 * LEASE_S)
    cluster.wait_start(result)
    waiting = cluster.send("work")
    assert worker.stop() == 0
    assert cluster.wait_success(result) == "done"
    assert not cluster.starts(waiting)
    numbers = streams.stats(cluster.client, QUEUE)
    assert (numbers.waiting, numbers.in_flight) == (1, 0)


def test_cold_shutdown_gives_the_job_back_without_counting(cluster: Cluster) -> None:
    worker = cluster.start_worker("one")
    result = cluster.send("work", 2)
    cluster.wait_start(result)
    worker.signal(signal.SIGQUIT)
    worker.popen.wait(20)
    assert streams.stats(cluster.client, QUEUE).in_flight == 0
    cluster.start_worker("two")
    assert cluster.wait_start(result, 2)["attempt"] == 1
    assert cluster.wait_success(result) == "done"
    assert len(cluster.ends(result)) == 1


def _freeze_with_a_job_unread(cluster: Cluster, worker: Worker) -> AsyncResult[Any]:
    """Freeze the worker in its blocking read, which the server then answers with a job."""

    def is_blocked() -> bool:
        return bool(cluster.client.info("clients")["blocked_clients"])

    def try_once() -> AsyncResult[Any] | None:
        cluster.wait(is_blocked, 5, "the worker to block in its read")
        worker.signal(signal.SIGSTOP)
        result = cluster.send("work", LEASE_S / 2)
        if streams.stats(cluster.client, QUEUE).in_flight:  # a waiting reader is served at once
            return result
        worker.signal(signal.SIGCONT)  # its read had just ended
        cluster.wait_success(result)
        cluster.wait_empty()
        return None

    return cluster.wait(try_once, 20, "the worker to be frozen in its read")


def _start_two(cluster: Cluster) -> dict[str, Worker]:
    return {worker.name: worker for worker in cluster.start_workers("one", "two")}
