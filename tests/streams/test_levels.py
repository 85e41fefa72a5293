"""Priorities: which level a number means, and that no level waits for ever."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis.strategies import integers, sets

from worker.streams.levels import LEVELS, level_of, reading_order

if TYPE_CHECKING:
    from tests.streams.cluster import Cluster


def test_levels_of_priorities() -> None:
    """0 is what kombu makes of none."""
    assert [level_of(priority) for priority in range(10)] == (
        ["normal"] + ["low"] * 3 + ["normal"] * 3 + ["high"] * 3
    )


def test_of_eight_reads_six_begin_with_high_one_with_each_other() -> None:
    firsts = [reading_order(turn)[0] for turn in range(8)]
    assert firsts == ["high", "high", "high", "normal", "high", "high", "high", "low"]


@given(start=integers(0, 10_000), with_work=sets(integers(0, 2), min_size=1))
def test_every_level_with_work_has_its_turn(start: int, with_work: set[int]) -> None:
    """In any eight reads in a row each level that has work is served; the more urgent, the more often."""
    busy = [LEVELS[number] for number in sorted(with_work)]
    orders = [reading_order(turn) for turn in range(start, start + 8)]
    assert all(sorted(order) == sorted(LEVELS) for order in orders)
    served = Counter(next(level for level in order if level in busy) for order in orders)
    assert set(served) == set(busy)
    assert served[busy[0]] == max(served.values())


def test_a_worker_takes_urgent_jobs_first_and_lets_none_starve(cluster: Cluster) -> None:
    cluster.start_worker()
    running = cluster.send("work", 2)  # the worker's read number 0
    cluster.wait_start(running)
    sent = {
        cluster.send("work", priority=priority).id: level
        for level, priority in (("low", 1), ("normal", 5), ("high", 9))
        for _ in range(6)
    }
    cluster.wait(lambda: len(cluster.trace("end")) == 19, 20, "all jobs to end")
    levels = "".join(sent[start["id"]][0] for start in cluster.trace("start")[1:])
    assert levels[:7] == "hhnhhhl"  # the last high job follows, then normal and low ones take turns
    cluster.wait_empty()


def test_a_job_that_comes_back_is_ahead_of_every_level(cluster: Cluster) -> None:
    worker = cluster.start_worker()
    low = cluster.send("work", 2, priority=1)
    cluster.wait_start(low)
    high = cluster.send("work", priority=9)
    worker.child().kill()
    cluster.wait_success(low)
    cluster.wait_success(high)
    first, again, last = cluster.trace("start")
    assert [first["id"], again["id"], last["id"]] == [low.id, low.id, high.id]
    assert (first["lease"].rpartition(":")[2], again["lease"].rpartition(":")[2]) == ("low", "front")
