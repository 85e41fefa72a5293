"""A full GPU: smaller batches once, then what the operator chose."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from worker.engines.oom import RAN_ON_CPU, with_room
from worker.engines.protocol import Transcript
from worker.errors import EngineFailed, OutOfGpuMemory

if TYPE_CHECKING:
    from worker.engines.protocol import Engine


class Crowded:
    """An engine on a GPU that is full until it has been ``roomy_after`` times relieved or moved."""

    def __init__(self, roomy_after: int, batch_size: int = 2) -> None:
        self.needs = roomy_after
        self.batch_size = batch_size
        self.did: list[str] = []
        self.run_on_cpu: BaseException | None = None

    def run(self) -> Transcript:
        self.did.append("run")
        if self.needs > 0:
            raise OutOfGpuMemory("full")
        if self.run_on_cpu is not None:
            raise self.run_on_cpu
        return Transcript("e", "m", "en", 1.0)

    def relieve(self) -> bool:
        self.did.append("relieve")
        if self.batch_size == 1:
            return False
        self.batch_size //= 2
        self.needs -= 1
        return True

    def move_to_cpu(self) -> None:
        self.did.append("move")
        self.needs = 0

    def discard(self) -> None:
        self.did.append("discard")


def given(crowded: Crowded, policy: str) -> Transcript:
    return with_room(cast("Engine", crowded), policy, crowded.run, crowded.discard)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["retry", "cpu", "fail"])
def test_smaller_batches_come_first(policy: str) -> None:
    crowded = Crowded(roomy_after=1)
    assert given(crowded, policy).warnings == ()
    assert crowded.did == ["run", "relieve", "run"]


def test_retry_gives_the_job_back() -> None:
    crowded = Crowded(roomy_after=9)
    with pytest.raises(OutOfGpuMemory):
        given(crowded, "retry")
    assert crowded.did == ["run", "relieve", "run"]


def test_fail_ends_the_job() -> None:
    with pytest.raises(EngineFailed, match="ON_GPU_OOM"):
        given(Crowded(roomy_after=9), "fail")


def test_cpu_goes_on_there_and_says_so() -> None:
    crowded = Crowded(roomy_after=9, batch_size=1)
    assert given(crowded, "cpu").warnings == (RAN_ON_CPU,)
    assert crowded.did == ["run", "relieve", "move", "run", "discard"]


def test_an_engine_on_the_cpu_is_discarded_also_when_the_job_ends_badly() -> None:
    crowded = Crowded(roomy_after=9, batch_size=1)
    crowded.run_on_cpu = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        given(crowded, "cpu")
    assert crowded.did[-1] == "discard"
