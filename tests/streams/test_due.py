"""Entries with a countdown: when their time has come they need room, as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.streams.cluster import QUEUE
from worker import streams

if TYPE_CHECKING:
    from tests.streams.cluster import Cluster


def _stats(cluster: Cluster) -> streams.QueueStats:
    return streams.stats(cluster.client, QUEUE)


def test_a_countdown_that_ends_behind_a_closed_gate_starts_nothing(cluster: Cluster) -> None:
    worker = cluster.start_worker()
    result = cluster.send("work", countdown=2)
    cluster.wait(lambda: _stats(cluster).in_flight == 1, 5, "the worker to hold it")
    cluster.gate.touch()
    cluster.wait(lambda: _stats(cluster).waiting == 1, 10, "the worker to give it back")
    assert not cluster.starts(result)
    cluster.gate.unlink()
    assert cluster.wait_success(result) == "done"
    assert [start["attempt"] for start in cluster.starts(result)] == [1]
    cluster.wait_empty()
    assert worker.log.count("gave back") == 1


def test_a_countdown_whose_entry_was_removed_leaves_the_worker_free(cluster: Cluster) -> None:
    worker = cluster.start_worker()
    removed = cluster.send("work", countdown=6)
    cluster.wait(lambda: _stats(cluster).in_flight == 1, 5, "the worker to hold it")
    assert streams.drop_tasks(cluster.client, QUEUE, lambda found: found) == {removed.id}
    cluster.wait(lambda: "was lost" in worker.log, 5, "the worker to find out")
    long, next_one = cluster.send("work", 8), cluster.send("work")
    cluster.wait_start(long)
    cluster.outlast(2)
    assert _stats(cluster).waiting == 1  # none waits behind a long job
    cluster.wait_success(long)
    cluster.wait_success(next_one)
    assert not cluster.starts(removed)


def test_a_countdown_that_ends_while_its_worker_is_busy_is_anothers(cluster: Cluster) -> None:
    busy = cluster.start_worker()
    result = cluster.send("work", countdown=3)
    cluster.wait(lambda: _stats(cluster).in_flight == 1, 5, "the worker to hold it")
    long = cluster.send("work", 12)
    cluster.wait_start(long)  # a countdown leaves room for other work
    cluster.wait(lambda: _stats(cluster).waiting == 1, 10, "the worker to give it back")
    assert busy.log.count("gave back") == 1  # nor has it taken it again
    cluster.start_worker("two")
    assert cluster.wait_start(result, timeout_s=8)["worker"] == "two@test"
    assert not cluster.ends(long)
    cluster.wait_success(result)
    cluster.wait_success(long)
    cluster.wait_empty()
