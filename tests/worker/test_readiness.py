"""What a child tells its parent, and what the parent makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from worker.app import create_app
from worker.errors import EngineFailed, EngineUnavailable, GpuFault, Interrupted, OutOfGpuMemory
from worker.gpu.renewal import Renewal
from worker.outcomes import as_job_error
from worker.readiness import Child, Load
from worker.settings import Settings
from worker.tasks import tools_of

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Who was sent a signal, instead of sending it."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, signum: signum and sent.append(pid))
    return sent


def raising(error: Exception) -> Callable[[], None]:
    def preload() -> None:
        raise error

    return preload


def begun(preload: Callable[[], None] = lambda: None, *, may_wait: bool = False) -> Child:
    child = Child()
    child.begin(preload, may_wait=may_wait)
    return child


def test_a_child_is_up_once_it_has_loaded_or_need_not() -> None:
    child = Child()
    assert not child.is_up()
    child.begin(lambda: None, may_wait=False)
    assert (child.is_up(), child.is_loaded()) == (True, True)
    child.let_preload(allowed=False)
    child.begin(raising(AssertionError()), may_wait=False)
    assert (child.is_up(), child.is_loaded()) == (True, False)


def test_the_state_of_a_dead_child_counts_for_nothing() -> None:
    child = begun()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    child._pid.value = gone.pid
    assert not child.is_up()
    assert not child.is_loaded()


def test_a_child_that_can_not_load_ends_its_worker(killed: list[int]) -> None:
    child = begun(raising(EngineUnavailable("no model")))
    assert (child.failure, child.is_up(), killed) == ("no model", False, [os.getppid()])


def test_a_full_gpu_ends_a_worker_only_where_nobody_waits_for_room(killed: list[int]) -> None:
    full = raising(OutOfGpuMemory("full"))
    waiting = begun(full, may_wait=True)
    assert (waiting.state, waiting.failure, killed) == (Load.SPENT, None, [])
    assert begun(full).failure == "full"
    assert killed == [os.getppid()]


def test_an_attempts_error_tells_of_the_device() -> None:
    child = begun()
    child.note(EngineFailed("the recording's fault"))
    assert child.is_up()
    child.note(OutOfGpuMemory("full"))
    assert child.state is Load.SPENT
    child.note(GpuFault("CUDA failed"))
    assert (child.cuda_failure, child.is_up()) == ("CUDA failed", False)
    child.spend()
    assert child.cuda_failure == "CUDA failed"  # the worse news stays


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), GpuFault),
        (RuntimeError("cuBLAS failed with status CUBLAS_STATUS_EXECUTION_FAILED"), GpuFault),
        (RuntimeError("shapes do not fit"), EngineFailed),
        (ValueError("CUDA error: in a file's name"), EngineFailed),
    ],
)
def test_a_failing_gpu_is_told_from_a_failing_engine(error: Exception, kind: type[Exception]) -> None:
    assert type(as_job_error(error, "transcribe")) is kind


def test_only_the_main_engines_failure_ends_the_worker(killed: list[int]) -> None:
    tools = tools_of(create_app(Settings(engine="simulated", engines_allowed="whisper")))
    error = EngineUnavailable("no model")
    assert tools.unloadable("simulated", error) is error  # no worker, nobody to end
    tools.child = begun()
    assert tools.unloadable("whisper", error) is error
    assert isinstance(tools.unloadable("simulated", error), Interrupted)
    assert tools.child.failure == "no model"
    assert killed == [os.getppid()]


def test_an_idle_child_is_replaced_in_three_looks(killed: list[int]) -> None:
    child, renewal = begun(), Renewal(idle_unload_s=10)
    renewal.look(child, 0, busy=False)
    renewal.look(child, 9, busy=False)
    assert not renewal.is_on
    renewal.look(child, 10, busy=False)
    assert (renewal.is_on, killed) == (True, [])
    renewal.look(child, 11, busy=True)  # a job slipped in
    assert killed == []
    renewal.look(child, 12, busy=False)
    assert killed == [os.getpid()]
    renewal.look(child, 13, busy=False)
    assert renewal.is_on  # it still is the old child
    renewal._killed_pid = 1
    child.begin(raising(AssertionError()), may_wait=True)  # its successor loads nothing
    renewal.look(child, 14, busy=False)
    assert (renewal.is_on, child.state) == (False, Load.UNLOADED)
    renewal.look(child, 1000, busy=False)
    assert not renewal.is_on  # there is nothing to give back


@pytest.mark.parametrize("idle_unload_s", [0, 10])
def test_work_begins_the_idle_time_anew_and_0_is_never(idle_unload_s: float, killed: list[int]) -> None:
    child, renewal = begun(), Renewal(idle_unload_s)
    renewal.look(child, 0, busy=False)
    renewal.look(child, 8, busy=True)
    renewal.look(child, 9, busy=False)
    renewal.look(child, 17, busy=False)
    child._count_done()  # a job so short that no look has seen it
    renewal.look(child, 18, busy=False)
    renewal.look(child, 26, busy=False)
    assert not renewal.is_on
    if idle_unload_s == 0:
        renewal.look(child, 10_000, busy=False)
        assert not renewal.is_on
    assert killed == []


def test_a_spent_child_is_replaced_at_once() -> None:
    child, renewal = begun(), Renewal(0)
    child.spend()
    renewal.look(child, 0, busy=True)
    assert renewal.is_on
