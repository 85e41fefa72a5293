"""A worker process of the pool and its starts; the process is a real one that does as it is told."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import wait_until
from worker.gpu.readings import Device, Fault, FaultKind, Reading
from worker.gpu.report import State
from worker.gpu.slot import ENDS_WITHIN_S, LONGEST_BACKOFF_S, STABLE_AFTER_S, Slot, backoff_s, obstacle
from worker.processes import REFUSED_EXIT

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICE = Device("GPU-a", "0", "Stub A")
WELL = Reading(DEVICE, 0.0)
ILL = Reading(DEVICE, 0.0, faults=(Fault(FaultKind.ECC, "2 errors"),))


def slot_that(does: str) -> Slot:
    return Slot("gpu0@h", DEVICE, argv=(sys.executable, "-c", f"import os, sys, time\n{does}"))


@pytest.fixture
def sleeper() -> Iterator[Slot]:
    slot = slot_that("time.sleep(600)")
    yield slot
    slot.signal(signal.SIGKILL)
    let_end(slot)


def let_end(slot: Slot) -> None:
    wait_until(lambda: not slot.runs, 10, "the process to end")


def test_back_off_doubles_up_to_a_limit() -> None:
    assert [backoff_s(number) for number in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert backoff_s(50) == LONGEST_BACKOFF_S


def test_what_stands_against_a_start() -> None:
    def state(reading: Reading | None, wait_s: float = 0.0) -> State | None:
        found = obstacle(reading, wait_s, "died")
        return found.state if found else None

    assert state(None) is State.MISSING
    assert state(ILL) is State.FAULTY
    assert state(WELL, 3.0) is State.RESTARTING
    assert state(WELL) is None


def test_the_process_knows_its_name_and_device_from_the_start() -> None:
    slot = slot_that(
        "sys.exit(sys.argv[1:] != ['--name', 'gpu0@h', '--gpu', os.environ['CUDA_VISIBLE_DEVICES']])"
    )
    slot.tend(WELL, 0.0)
    let_end(slot)
    slot.tend(WELL, 0.5)
    assert slot.obstacle is not None
    assert "ended with status 0" in slot.obstacle.reason


def test_it_starts_again_after_its_back_off_and_soon_where_it_had_lived_long() -> None:
    slot = slot_that("sys.exit(3)")
    slot.tend(WELL, 0.0)
    let_end(slot)
    slot.tend(WELL, 10.0)  # noticed: 1 s from here
    assert not slot.runs
    slot.tend(WELL, 11.0)
    assert slot._process is not None
    let_end(slot)
    slot.tend(WELL, 12.0)  # 2 s
    slot.tend(WELL, 13.9)
    assert slot._process is None
    slot.tend(WELL, 14.0)
    let_end(slot)
    slot.tend(WELL, 14.0 + STABLE_AFTER_S + 1)
    slot.tend(WELL, 14.0 + STABLE_AFTER_S + 2)
    assert slot._process is not None
    let_end(slot)


def test_nothing_is_started_on_a_device_that_is_ill_or_gone() -> None:
    slot = slot_that("pass")
    for reading in (ILL, None):
        slot.tend(reading, 0.0)
        assert slot._process is None


def test_a_refusal_is_remembered() -> None:
    slot = slot_that(f"sys.exit({REFUSED_EXIT})")
    slot.tend(WELL, 0.0)
    let_end(slot)
    assert not slot.was_refused
    slot.tend(WELL, 0.1)
    assert slot.was_refused


def test_a_worker_that_does_not_leave_an_ill_device_is_killed(sleeper: Slot) -> None:
    sleeper.tend(WELL, 0.0)
    sleeper.tend(ILL, 10.0)
    sleeper.tend(WELL, 20.0)  # it has recovered
    sleeper.tend(ILL, 30.0)
    assert sleeper._failing_since == 30.0
    sleeper.tend(ILL, 30.0 + ENDS_WITHIN_S)
    assert sleeper.runs
    sleeper.tend(None, 31.0 + ENDS_WITHIN_S)
    let_end(sleeper)
