"""The server is cut off, restarted, frozen or wiped while jobs run."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Self

import pytest
import redis

from tests.streams.cluster import QUEUE, Cluster
from tests.streams.sample_app import LEASE_S
from worker import streams

if TYPE_CHECKING:
    from tests.support.redis_server import RedisServer


def test_a_running_job_survives_the_reset_of_all_connections(cluster: Cluster) -> None:
    cluster.start_worker("one")
    result = cluster.send("work", 5)
    start = cluster.wait_start(result)
    cluster.cut_connections()
    cluster.start_worker("two")
    assert cluster.wait_success(result) == "done"
    cluster.wait_empty()
    assert cluster.starts(result) == [start]


def test_a_job_that_celery_cancels_on_connection_loss_is_tried_again(cluster: Cluster) -> None:
    """Celery kills its child and forgets it, without an answer: its lease must not live for ever."""
    cluster.start_worker(worker_cancel_long_running_tasks_on_connection_loss=True)
    result = cluster.send("work", 4)
    cluster.wait_start(result)
    cluster.cut_connections()
    assert cluster.wait_start(result, 2)["attempt"] == 2
    cluster.wait(lambda: cluster.ends(result), 10, "the second attempt to end")
    cluster.wait_empty()


def test_restart_loses_neither_running_nor_waiting_nor_dead_jobs(own_cluster: Cluster) -> None:
    cluster = own_cluster
    cluster.start_worker()
    running = cluster.send("work", 4)
    cluster.wait_start(running)
    waiting = [cluster.send("work") for _ in range(3)]
    cluster.client.xadd(streams.QueueKeys(QUEUE).dead, {"m": "{}", "n": 3, "why": "test"})
    cluster.server.kill()
    cluster.server.start()
    for result in (running, *waiting):
        cluster.wait_success(result)
    cluster.wait_empty()
    assert [len(cluster.starts(result)) for result in (running, *waiting)] == [1, 1, 1, 1]
    assert streams.stats(cluster.client, QUEUE).dead == 1


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_an_outage_longer_than_the_lease_costs_no_live_worker_its_job(own_cluster: Cluster, how: str) -> None:
    """The guard: however eagerly others sweep, every owner can renew first."""
    cluster = own_cluster
    cluster.start_workers("one", "two")
    result = cluster.send("work", 3 * LEASE_S)
    cluster.wait_start(result)
    with EagerSweeper(cluster.server) as sweeper:
        cluster.outlast(LEASE_S)  # so that the sweeper is past its first, careful, lease
        _outage(cluster, how)
        assert cluster.wait_success(result, 30) == "done"
        cluster.wait_empty()
    assert len(cluster.starts(result)) == 1
    assert sweeper.reclaimed == []


def test_a_job_that_ends_while_the_server_is_away_has_succeeded(own_cluster: Cluster) -> None:
    cluster = own_cluster
    cluster.start_worker()
    result = cluster.send("work", 1)
    cluster.wait_start(result)
    cluster.server.kill()
    cluster.wait(lambda: cluster.ends(result), 10, "the job to end")
    cluster.server.start()
    assert cluster.wait_success(result, 30) == "done"
    cluster.wait_empty()
    assert len(cluster.starts(result)) == 1


def test_a_job_whose_worker_dies_while_the_server_is_full_is_run_once_there_is_room(cluster: Cluster) -> None:
    workers = {worker.name: worker for worker in cluster.start_workers("one", "two")}
    result = cluster.send("work", 3)
    start = cluster.wait_start(result)
    with cluster.server.full():
        workers.pop(start["worker"]).kill()
        (other,) = workers.values()
        cluster.wait(lambda: "could not sweep" in other.log, 5, "a sweep to be refused")
        cluster.outlast(1.5 * LEASE_S)
        assert streams.stats(cluster.client, QUEUE).in_flight == 1
    assert cluster.wait_start(result, 2)["attempt"] == 2
    assert cluster.wait_success(result) == "done"
    cluster.wait_empty()


def test_a_job_whose_child_dies_while_the_server_is_full_is_run_once_there_is_room(cluster: Cluster) -> None:
    worker = cluster.start_worker()
    result = cluster.send("work", 3)
    cluster.wait_start(result)
    with cluster.server.full():
        worker.child().kill()
        cluster.wait(lambda: "could not end lease" in worker.log, 15, "the return to be refused")
        assert streams.stats(cluster.client, QUEUE).in_flight == 1
    assert cluster.wait_start(result, 2)["attempt"] == 2
    assert cluster.wait_success(result) == "done"
    cluster.wait_empty()


def test_jobs_that_start_and_end_while_the_server_is_full_have_succeeded(cluster: Cluster) -> None:
    """A worker can read and acknowledge all the time, but tells no result meanwhile."""
    cluster.start_worker()
    ending = cluster.send("work", 1)
    cluster.wait_start(ending)
    starting = [cluster.send("work") for _ in range(2)]
    with cluster.server.full():
        cluster.wait(lambda: cluster.ends(ending), 10, "the job to end")
        cluster.outlast(1)
        assert streams.entry_count(cluster.client, QUEUE) == 3
    for result in (ending, *starting):
        assert cluster.wait_success(result) == "done"
        assert len(cluster.starts(result)) == 1
    cluster.wait_empty()


def test_a_wiped_server_costs_the_jobs_but_not_the_worker(cluster: Cluster) -> None:
    worker = cluster.start_worker()
    lost = cluster.send("work", 60)
    cluster.wait_start(lost)
    cluster.client.flushall()
    cluster.wait(lambda: "killing the attempt" in worker.log, 10, "the attempt to be stopped")
    result = cluster.send("work")
    assert cluster.wait_success(result, 30) == "done"
    assert worker.popen.poll() is None


def test_a_wiped_server_is_read_again_by_an_idle_worker(cluster: Cluster) -> None:
    cluster.start_worker()
    cluster.wait_success(cluster.send("work"))
    cluster.client.flushall()
    assert cluster.wait_success(cluster.send("work"), 10) == "done"


class EagerSweeper:
    """Sweeps without a pause, from before the outage until after it."""

    def __init__(self, server: RedisServer) -> None:
        self.reclaimed: list[streams.Reclaimed] = []
        self._client = server.client(retries=0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        options = streams.Options(lease_s=LEASE_S)
        while not self._stop.wait(0.005):
            try:
                self.reclaimed += streams.sweep(self._client, [QUEUE], options)
            except redis.RedisError:
                continue


def _outage(cluster: Cluster, how: str) -> None:
    if how == "killed":
        cluster.server.kill()
        cluster.outlast(1.5 * LEASE_S)
        cluster.server.start()
    else:
        cluster.server.signal(signal.SIGSTOP)
        cluster.outlast(1.5 * LEASE_S)
        cluster.server.signal(signal.SIGCONT)
