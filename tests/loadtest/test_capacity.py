"""The number of GPUs, against what is known of queues and against a queue that is played through."""

from __future__ import annotations

import re

import pytest

from loadtest.capacity import Demand, Goal, Gpu, erlang_c, gpus_needed, main
from loadtest.queue_simulation import Case, late_wait_s
from tests.support.service import ROOT

RECORDINGS = 60_000
# Lengths that hardly differ, differ as exponential ones do, and have a heavy tail; few GPUs and many.
CASES = [
    Case(Demand(500, 300, 0.5), Gpu(10), Goal(1.0, 60)),
    Case(Demand(100, 1800, 1.0), Gpu(10), Goal(1.0, 300)),
    Case(Demand(100, 1800, 2.0), Gpu(40), Goal(1.0, 60)),
    Case(Demand(500, 300, 2.0), Gpu(10), Goal(1.0, 60)),
    Case(Demand(2000, 1800, 1.0), Gpu(40), Goal(1.0, 60)),
]


@pytest.mark.parametrize(
    ("servers", "load", "delayed"),
    [(1, 0.3, 0.3), (1, 0.9, 0.9), (2, 1.0, 1 / 3), (10, 8.0, 0.409), (3, 0.0, 0.0)],
)
def test_erlang_c_has_its_known_values(servers: int, load: float, delayed: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(delayed, abs=5e-4)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("seed", [11, 12])
def test_the_planned_gpus_keep_the_goal_and_one_fewer_does_not(case: Case, seed: int) -> None:
    plan = gpus_needed(case.demand, case.gpu, case.goal)

    def wait_s(gpus: int) -> float:
        return late_wait_s(case.demand, case.gpu, gpus, case.goal.late, RECORDINGS, seed)

    assert plan.gpus > 1
    assert wait_s(plan.gpus) <= case.goal.wait_s
    assert wait_s(plan.gpus - 1) > case.goal.wait_s


def test_the_utilisation_is_kept_where_nobody_would_wait() -> None:
    """24 hours a day at four times real time, evenly: a quarter of a GPU's time, which is taken as a half."""
    plan = gpus_needed(Demand(48, 60, peak=1), Gpu(4, overhead_s=0), Goal(0.5, wait_s=1e9))
    assert (plan.gpus, plan.load, plan.utilisation) == (1, pytest.approx(0.5), pytest.approx(0.5))
    assert gpus_needed(Demand(49, 60, peak=1), Gpu(4, overhead_s=0), Goal(0.5, wait_s=1e9)).gpus == 2


def test_what_all_jobs_take_counts_more_for_short_ones() -> None:
    def load(length_s: float) -> float:
        return gpus_needed(Demand(100, length_s), Gpu(60, overhead_s=2), Goal()).load

    assert load(60) == pytest.approx(3 * 100 / 24 * (1 + 2) / 60)
    assert load(3600) < load(60) / 2


@pytest.mark.parametrize(
    ("demand", "gpu", "goal", "named"),
    [
        (Demand(0, 60), Gpu(10), Goal(), "hours_per_day"),
        (Demand(1, 60), Gpu(-1), Goal(), "speed"),
        (Demand(1, 60), Gpu(10, -1), Goal(), "overhead_s"),
        (Demand(1, 60), Gpu(10), Goal(utilisation=1.1), "utilisation"),
        (Demand(1, 60), Gpu(10), Goal(late=1), "late"),
    ],
)
def test_figures_that_cannot_be_meant_are_named(demand: Demand, gpu: Gpu, goal: Goal, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        gpus_needed(demand, gpu, goal)


def test_the_documented_command_tells_what_is_documented(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/performance.md").read_text()
    (command, told), *_ = re.findall(r"\$ python -m loadtest\.(capacity .*)\n(.*)\n", page)
    monkeypatch.setattr("sys.argv", command.split())
    assert main() == 0
    assert capsys.readouterr().out == f"{told}\n"


def test_the_command_names_what_cannot_be_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["capacity", "--hours", "0", "--speed", "40", "--length-min", "30"])
    assert main() == 2
    assert capsys.readouterr().err == "error: hours_per_day must be above 0\n"
