"""What a worker says of itself where it may not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.gpu.stub import Gpu, StubMachine
from worker.gpu.admission import Limits
from worker.gpu.renewal import Renewal
from worker.gpu.report import State
from worker.gpu.sight import Sight
from worker.gpu.turn import Turn
from worker.gpu.watch import OTHERS_TURN, Watch
from worker.readiness import Child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def problems() -> list[str]:
    """What hinders the worker, if anything."""
    return []


@pytest.fixture
def watch(here: StubMachine, tmp_path: Path, problems: list[str]) -> Iterator[Watch]:
    """Of a worker that has loaded nothing yet, on a device with room."""
    here.set(Gpu("GPU-a"))
    child = Child()
    child.let_preload(False)
    child.begin(lambda: None, may_wait=True)
    made = Watch(
        sight=Sight("GPU-a"),
        need_bytes=1,
        limits=Limits(90, 100),
        child=child,
        renewal=Renewal(0),
        publish=lambda _view: None,
        turn=Turn("GPU-a", tmp_path),
        hindrance=lambda: problems[0] if problems else None,
    )
    yield made
    made.end()


def test_whoever_waits_for_its_turn_is_well_but_reads_nothing(watch: Watch, tmp_path: Path) -> None:
    other = Turn("GPU-a", tmp_path)
    assert other.look(may_load=True, loaded=False, at_work=False, now=0)
    watch._look()
    told = watch.view()
    assert (told.state, told.admission, watch.may_read()) == (State.READY, OTHERS_TURN, False)
    other.leave()
    watch._look()
    assert (watch.view().admission.admitted, watch.may_read()) == (True, True)


def test_a_hindrance_is_told_before_a_turn(watch: Watch, tmp_path: Path, problems: list[str]) -> None:
    other = Turn("GPU-a", tmp_path)
    other.look(may_load=True, loaded=False, at_work=False, now=0)
    problems.append("the language model is away")
    watch._look()
    told = watch.view()
    assert (told.state, told.reason, watch.may_read()) == (State.REFUSING, problems[0], False)
    other.leave()
