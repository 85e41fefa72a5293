"""Every moment of a job by every strike: one final state, one result, whatever was hit.

For each strike seven workers stop, each at another moment of its job; the strike hits them all; then they are
released, and each job is judged over HTTP.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import wave
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.support.service import START_S, Service
from tests.support.strikes import Gate, Moment
from worker import streams
from worker.app import TRANSCRIBE_QUEUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.service import Process

# Longer than the lease of 3 s, and than two tries of a client that gives a silent server up after 5 s.
OUTAGE_S = 12.0
SETTLE_S = 60.0
# The sample needs no conversion, and goes to no bucket (test_s3_jobs.py).
_NOT_HERE = {Moment.CONVERTED, Moment.KEPT, Moment.HALF_UPLOADED, Moment.UPLOADED}
MOMENTS = [moment for moment in Moment if moment not in _NOT_HERE]


@dataclass
class Scene:
    """A service whose workers have all stopped, each with a job of its own."""

    service: Service
    folder: Path
    workers: dict[Moment, Process] = field(default_factory=dict)
    jobs: dict[Moment, str] = field(default_factory=dict)
    leases: dict[Moment, str] = field(default_factory=dict)  # of the struck attempts

    def set_up(self) -> None:
        self.folder.mkdir()
        self.service.start_gateway()
        self.service.start_sweeper()
        for moment in MOMENTS:
            self.workers[moment] = _start_at(self.service, self.gate(moment))
        for _ in MOMENTS:
            self.service.submit()
        for moment in MOMENTS:
            self.service.wait(self.gate(moment).reached.exists, START_S, f"a job to be {moment}")
            self.jobs[moment] = self.gate(moment).parked()[1]
            self.leases[moment] = self.recorded(moment, "lease")

    def recorded(self, moment: Moment, name: str) -> str:
        with self.service.redis.client() as client:
            return str(client.hget(f"job:{self.jobs[moment]}", name) or "")

    def gate(self, moment: Moment) -> Gate:
        return Gate(self.folder, moment)

    def release(self) -> None:
        self.gate(Moment.RUNNING).release()  # all share a folder

    def release_and_see_them_go(self) -> None:
        self.release()
        for moment in MOMENTS:
            self.service.wait(self.gate(moment).left.exists, 10, f"{moment} to be left")

    def wait_all_ended(self) -> None:
        for moment in MOMENTS:
            assert self.first_end(moment)["status"] == "completed"

    def first_end(self, moment: Moment) -> dict[str, Any]:
        return _first_end(self.service, self.jobs[moment])

    def dismiss(self) -> None:
        """All at once: each takes its seconds to stop."""
        workers = [process for process in self.service.processes if process.name.startswith("worker")]
        living = [worker for worker in workers if worker.popen.poll() is None]
        for worker in living:
            worker.signal(signal.SIGCONT)
            worker.signal(signal.SIGTERM)
        for worker in living:
            worker.popen.wait(30)

    def is_over(self, moment: Moment) -> bool:
        return _has_ended(self.gate(moment), self.workers[moment])

    def entries(self) -> int:
        with self.service.redis.client() as client:
            return streams.entry_count(client, TRANSCRIBE_QUEUE)


def _is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def terminate(scene: Scene) -> None:
    """SIGTERM: each worker finishes what it has, and goes; nobody else is there."""
    for worker in scene.workers.values():
        worker.signal(signal.SIGTERM)
    for worker in scene.workers.values():
        scene.service.wait(lambda worker=worker: "Warm shutdown" in worker.log, 10, "the signal's arrival")
    scene.release()
    for worker in scene.workers.values():
        assert worker.popen.wait(30) == 0


def kill(scene: Scene) -> None:
    """SIGKILL of the parents: their children go with them."""
    for worker in scene.workers.values():
        worker.kill()
    scene.service.start_worker("rescuer")


def freeze(scene: Scene) -> None:
    """SIGSTOP of parent and child, until others have done their jobs: they wake too late for everything."""
    frozen = _stop(scene)
    scene.service.start_worker("rescuer")
    scene.wait_all_ended()
    _wake(scene, frozen)


def freeze_until_reclaimed(scene: Scene) -> None:
    """SIGSTOP just past the lease: they wake when their jobs are nobody's, and may take them once more."""
    frozen = _stop(scene)
    scene.service.wait(lambda: _leased(scene) == 0, 20, "the leases to expire")
    _wake(scene, frozen)


def freeze_until_others_run(scene: Scene) -> None:
    """SIGSTOP until each job is in the middle of its next attempt: only the fence tells who owns it."""
    frozen = _stop(scene)
    gates = [
        Gate(scene.folder / f"for-{moment}", Moment.RUNNING) for moment in MOMENTS if not moment.is_committed
    ]
    for gate in gates:
        _start_at(scene.service, gate)
    for gate in gates:
        scene.service.wait(gate.reached.exists, START_S, "the next attempt to run")
    _wake(scene, frozen)
    for gate in gates:
        gate.release()


def restart_redis(scene: Scene) -> None:
    """SIGKILL of the server; all go on while it is away."""
    scene.service.redis.kill()
    scene.release_and_see_them_go()
    _outlast(scene)
    scene.service.redis.start()


def freeze_redis(scene: Scene) -> None:
    """SIGSTOP of the server; all go on meanwhile, and wait for an answer longer than their lease."""
    scene.service.redis.freeze()
    scene.release_and_see_them_go()
    _outlast(scene)
    scene.service.redis.thaw()


def _outlast(scene: Scene) -> None:
    """Let the outage last: during it there is nothing to observe."""
    until = time.monotonic() + OUTAGE_S
    scene.service.wait(lambda: time.monotonic() >= until, OUTAGE_S + 1, "the outage to have lasted")


def _stop(scene: Scene) -> list[int]:
    parents = [worker.pid for worker in scene.workers.values()]
    children = [child.pid for worker in scene.workers.values() for child in worker.children()]
    _signal(parents + children, signal.SIGSTOP)
    return parents + children


def _wake(scene: Scene, pids: list[int]) -> None:
    scene.release()
    _signal(pids, signal.SIGCONT)
    for moment in MOMENTS:
        scene.service.wait(
            lambda moment=moment: scene.is_over(moment), 20, f"the late attempt {moment} to end"
        )


def _leased(scene: Scene) -> int:
    with scene.service.redis.client() as client:
        return streams.stats(client, TRANSCRIBE_QUEUE).in_flight


STRIKES: list[Callable[[Scene], None]] = [
    terminate,
    kill,
    freeze,
    freeze_until_reclaimed,
    freeze_until_others_run,
    restart_redis,
    freeze_redis,
]
COSTLY = {kill, freeze, freeze_until_reclaimed, freeze_until_others_run}


@dataclass(frozen=True)
class Struck:
    scene: Scene
    costs_an_attempt: bool


@pytest.fixture(scope="module", params=STRIKES, ids=lambda strike: strike.__name__)
def struck(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Struck]:
    folder = tmp_path_factory.mktemp("matrix")
    service = Service(folder, {"ENGINE": "simulated"})
    scene = Scene(service, folder / "gates")
    try:
        scene.set_up()
        request.param(scene)
        yield Struck(scene, request.param in COSTLY)
    finally:
        scene.dismiss()
        service.end()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_struck_job_has_one_end_and_one_result(struck: Struck, moment: Moment) -> None:
    service, task_id = struck.scene.service, struck.scene.jobs[moment]
    status = struck.scene.first_end(moment)
    assert (status["status"], status["error"]) == ("completed", None)
    repeated = struck.costs_an_attempt and not moment.is_committed
    assert status["attempt"] == (2 if repeated else 1)

    service.wait(lambda: struck.scene.entries() == 0, SETTLE_S, "every entry to be acknowledged")
    result = service.download(task_id)
    assert "# Transcript" in service.download(task_id, "md").text
    named = struck.scene.recorded(moment, "result")
    late = f"result.{struck.scene.leases[moment].partition('@')[0]}.json"
    assert not (repeated and named == late), "a late attempt has committed"
    assert [name for name in service.files() if task_id in name] == [f"jobs/{task_id}/{named}"]
    assert service.status(task_id) == status
    assert service.download(task_id).content == result.content


def test_nothing_is_left_of_the_strike(struck: Struck) -> None:
    service = struck.scene.service
    service.wait(lambda: struck.scene.entries() == 0, SETTLE_S, "every entry to be acknowledged")
    with service.redis.client() as client:
        numbers = streams.stats(client, TRANSCRIBE_QUEUE)
        assert (numbers.waiting, numbers.in_flight, numbers.dead) == (0, 0, 0)
        assert (client.zcard("jobs:waiting"), client.zcard("jobs:running")) == (0, 0)
        assert client.zcard("jobs:ended") == len(MOMENTS)
    assert len(service.files()) == len(MOMENTS)


def test_a_late_attempt_leaves_the_conversion_of_its_successor_alone(tmp_path: Path) -> None:
    """Both are between writing a copy of the recording and giving it its name."""
    service = Service(tmp_path, {"ENGINE": "simulated"})
    late, successor = (Gate(tmp_path / name, Moment.CONVERTED) for name in ("late", "successor"))
    try:
        service.start_gateway()
        service.start_sweeper()
        first = _start_at(service, late)
        task_id = service.submit(_telephone_call(tmp_path / "call.wav"))
        service.wait(late.reached.exists, START_S, "the first attempt to convert")
        frozen = [first.pid, *(child.pid for child in first.children())]
        _signal(frozen, signal.SIGSTOP)
        _start_at(service, successor)
        service.wait(successor.reached.exists, START_S, "the second attempt to convert")

        late.release()
        _signal(frozen, signal.SIGCONT)
        service.wait(lambda: _has_ended(late, first), 20, "the late attempt to end")
        successor.release()
        status = _first_end(service, task_id)
        assert (status["status"], status["error"], status["attempt"]) == ("completed", None, 2)
        assert len(service.files()) == 1
    finally:
        service.end()


def test_what_a_late_attempt_left_behind_is_removed(tmp_path: Path) -> None:
    """It woke with Redis away, settled its result beside the winner's, and was killed before it could ask."""
    service = Service(tmp_path, {"ENGINE": "simulated"})
    try:
        service.start_all()
        task_id = service.submit()
        service.wait_for(task_id, "completed")
        (result,) = service.files()
        (service.cache / "jobs" / task_id / "result.1-0.json").write_text("{}")
        service.wait(lambda: service.files() == [result], 10, "the late result to be removed")
    finally:
        service.end()


def _start_at(service: Service, gate: Gate) -> Process:
    gate.folder.mkdir(exist_ok=True)
    arguments = ("tests.support.strikes", gate.moment, str(gate.folder))
    return service.start(f"worker-{gate.folder.name}-{gate.moment}", *arguments)


def _first_end(service: Service, task_id: str) -> dict[str, Any]:
    """The first final state that is shown: were it taken back, waiting for "completed" would not tell."""

    def ended() -> dict[str, Any] | None:
        status = service.status(task_id)
        return status if status["status"] in {"completed", "failed"} else None

    found: dict[str, Any] = service.wait(ended, SETTLE_S, f"job {task_id} to end")
    return found


def _has_ended(gate: Gate, worker: Process) -> bool:
    """Whether nothing of the struck attempt can write any more."""
    finished = '"attempt_finished"' in worker.log
    return (finished and gate.left.exists()) or not _is_alive(gate.parked()[0])


def _signal(pids: list[int], signum: signal.Signals) -> None:
    for pid in pids:
        # A parent that wakes first may have killed its late child by then.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def _telephone_call(path: Path) -> Path:
    """8 kHz: engines want another rate."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 8_000 * 20))
    return path
