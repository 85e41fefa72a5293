"""The queue that loadtest.capacity reckons with, played through recording by recording.

    python -m loadtest.queue_simulation    the formula against it, in 72 cases

Exits with 1 where the formula takes too few GPUs in more than one case of twenty.

First come, first served: one recording a GPU, as the service does within a priority.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadtest.capacity import Demand, Goal, Gpu, gpus_needed

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDINGS = 500_000
SEED = 1
MOST_TOO_FEW = 0.05  # of the cases
WARM_UP = 0.1  # of the recordings: the queue begins empty


def waits_s(demand: Demand, gpu: Gpu, gpus: int, recordings: int, seed: int) -> list[float]:
    """Each recording's wait for a GPU in an endless busiest hour. Lengths are log-normal: a heavy tail."""
    chance = random.Random(seed)  # noqa: S311  reproducible, not secret
    lengths = log_normal(chance, demand.length_s, demand.length_cv)
    free_at = [0.0] * gpus
    now = 0.0
    waits = []
    for length_s in itertools.islice(lengths, recordings):
        now += chance.expovariate(demand.peak_per_s)
        begins = max(now, free_at[0])
        heapq.heapreplace(free_at, begins + gpu.service_s(length_s))
        waits.append(begins - now)
    return waits[int(WARM_UP * recordings) :]


def log_normal(chance: random.Random, mean: float, cv: float) -> Iterator[float]:
    sigma = math.sqrt(math.log(1 + cv**2))
    while True:
        yield chance.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)


def late_wait_s(demand: Demand, gpu: Gpu, gpus: int, late: float, recordings: int, seed: int) -> float:
    """What a share of ``late`` waits longer than."""
    waits = sorted(waits_s(demand, gpu, gpus, recordings, seed))
    return waits[math.ceil((1 - late) * len(waits)) - 1]


@dataclass(frozen=True)
class Case:
    demand: Demand
    gpu: Gpu
    goal: Goal


def cases() -> list[Case]:
    """The wait, not the utilisation, decides in them: that is what a simulation can contradict."""
    return [
        Case(Demand(hours, length_s, cv), Gpu(speed), Goal(1.0, wait_s))
        for hours in (100, 500, 2000)
        for length_s in (300, 1800)
        for cv in (0.5, 1.0, 2.0)
        for speed in (10, 40)
        for wait_s in (60, 300)
    ]


def fewest_gpus(case: Case, near: int, recordings: int, seed: int) -> int:
    """That keep the goal in the simulation, sought from ``near`` on."""

    def holds(gpus: int) -> bool:
        if case.demand.peak_per_s * case.gpu.service_s(case.demand.length_s) >= gpus:
            return False  # the queue would grow without end
        wait_s = late_wait_s(case.demand, case.gpu, gpus, case.goal.late, recordings, seed)
        return wait_s <= case.goal.wait_s

    gpus = near
    if holds(gpus):
        while gpus > 1 and holds(gpus - 1):
            gpus -= 1
        return gpus
    while not holds(gpus):
        gpus += 1
    return gpus


def main() -> int:
    """A line for each difference, and how many cases have which."""
    differences: Counter[int] = Counter()
    for case in cases():
        plan = gpus_needed(case.demand, case.gpu, case.goal)
        fewest = fewest_gpus(case, plan.gpus, RECORDINGS, SEED)
        differences[plan.gpus - fewest] += 1
        if plan.gpus != fewest:
            print(f"{plan.gpus} by the formula, {fewest} in the simulation: {case}")
    for difference, count in sorted(differences.items()):
        print(f"{difference:+d} GPUs: {count} of {sum(differences.values())} cases")
    too_few = sum(count for difference, count in differences.items() if difference < 0)
    return 1 if too_few > MOST_TOO_FEW * sum(differences.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
