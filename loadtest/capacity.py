"""How many GPUs a day's recordings need: a formula, pure.

    python -m loadtest.capacity --hours 500 --speed 40 --length-min 30

A GPU works on one recording at a time, so the service in its busiest hour is the queue M/G/c: recordings come
at random (Poisson), each takes its length divided by the engine's speed, and a fixed time besides.

Sources. That a recording has to wait at all: Erlang's C formula (A. K. Erlang, 1917), by the recursion of
Erlang's B. What lengths that differ do to the wait: the factor (1 + cv²) / 2, as Allen and Cunneen put it
(A. O. Allen, Probability, Statistics, and Queueing Theory, 2nd ed. 1990). That those who wait do so for a
time that is about exponential: J. Abate, G. L. Choudhury and W. Whitt, Exponential approximations for tail
probabilities in queues, I: waiting times, Operations Research 43 (1995) 885-901.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass

MOST_GPUS = 100_000


@dataclass(frozen=True)
class Demand:
    """What comes in a day, and how it is spread.

    Attributes:
        hours_per_day: Hours of recordings.
        length_s: Mean length of a recording.
        length_cv: Standard deviation of the lengths over their mean; 1 where nothing is known, and more where
            many short ones go with a few long ones.
        peak: Recordings of the busiest hour over those of an average hour.
    """

    hours_per_day: float
    length_s: float
    length_cv: float = 1.0
    peak: float = 3.0

    @property
    def peak_per_s(self) -> float:
        """Recordings a second in the busiest hour."""
        return self.peak * self.hours_per_day / 24 / self.length_s


@dataclass(frozen=True)
class Gpu:
    """``speed``: seconds of recording done in a second; ``overhead_s``: what any job takes besides."""

    speed: float
    overhead_s: float = 1.0

    def service_s(self, length_s: float) -> float:
        return length_s / self.speed + self.overhead_s


@dataclass(frozen=True)
class Goal:
    """At most so busy in the busiest hour, and a share of 1 - ``late`` waits at most ``wait_s`` for a GPU."""

    utilisation: float = 0.8
    wait_s: float = 300.0
    late: float = 0.05


@dataclass(frozen=True)
class Plan:
    """``load`` is in GPUs: those that would be busy all the time. ``wait_s`` is what is expected."""

    gpus: int
    load: float
    utilisation: float
    wait_s: float


def gpus_needed(demand: Demand, gpu: Gpu, goal: Goal) -> Plan:
    """The fewest that keep the goal. Raises ValueError for figures that can't be meant."""
    check(demand, gpu, goal)
    mean_s = gpu.service_s(demand.length_s)
    load = demand.peak_per_s * mean_s
    for gpus in range(max(1, math.ceil(load / goal.utilisation - 1e-9)), MOST_GPUS):
        wait_s = wait_quantile_s(gpus, load, mean_s, service_cv(demand, gpu), goal.late)
        if wait_s <= goal.wait_s:
            return Plan(gpus, load, load / gpus, wait_s)
    raise ValueError(f"more than {MOST_GPUS} GPUs")


def service_cv(demand: Demand, gpu: Gpu) -> float:
    """Less than the lengths' own, as the fixed time does not differ."""
    return demand.length_cv * (demand.length_s / gpu.speed) / gpu.service_s(demand.length_s)


def wait_quantile_s(gpus: int, load: float, mean_s: float, cv: float, late: float) -> float:
    """What a share of ``late`` waits longer than; infinite where the load is too much."""
    if load >= gpus:
        return math.inf
    delayed = erlang_c(gpus, load)
    if delayed <= late:
        return 0.0
    return math.log(delayed / late) * mean_s / (gpus - load) * (1 + cv**2) / 2


def erlang_c(servers: int, load: float) -> float:
    """The share of those that find all servers busy; ``load`` is in servers, and less than there are."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def check(demand: Demand, gpu: Gpu, goal: Goal) -> None:
    above_0 = {
        "hours_per_day": demand.hours_per_day,
        "length_s": demand.length_s,
        "peak": demand.peak,
        "speed": gpu.speed,
        "utilisation": goal.utilisation,
        "late": goal.late,
    }
    for name, value in above_0.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0")
    if min(demand.length_cv, gpu.overhead_s, goal.wait_s) < 0:
        raise ValueError("length_cv, overhead_s and wait_s must not be below 0")
    if goal.utilisation > 1 or goal.late >= 1:
        raise ValueError("utilisation must be at most 1, late below 1")


def main() -> int:
    arguments = parse_arguments()
    demand = Demand(arguments.hours, arguments.length_min * 60, arguments.length_cv, arguments.peak)
    gpu = Gpu(arguments.speed, arguments.overhead_s)
    try:
        plan = gpus_needed(demand, gpu, Goal(arguments.utilisation, arguments.wait_s))
    except ValueError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 2
    print(
        f"{plan.gpus} GPUs: in the busiest hour {plan.load:.2f} are busy ({plan.utilisation:.0%}), "
        f"19 of 20 recordings wait {plan.wait_s:.0f} s at most"
    )
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.capacity", description="GPUs for a day's recordings"
    )
    add = parser.add_argument
    add("--hours", type=float, required=True, help="of recordings a day")
    add("--speed", type=float, required=True, help="seconds of recording that a GPU does in a second")
    add("--length-min", type=float, required=True, help="a recording's mean length, in minutes")
    add(
        "--length-cv",
        type=float,
        default=1.0,
        help="of the lengths: deviation over mean (default %(default)s)",
    )
    add("--peak", type=float, default=3.0, help="busiest hour over average hour (default %(default)s)")
    add("--overhead-s", type=float, default=1.0, help="that any job takes besides (default %(default)s)")
    add("--utilisation", type=float, default=0.8, help="at most, in the busiest hour (default %(default)s)")
    add("--wait-s", type=float, default=300.0, help="for 19 of 20 recordings (default %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
