"""A driver that does not answer: nobody stands still with it, and everybody says so."""

from __future__ import annotations

import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.gpu.conftest import engine_script
from tests.gpu.stub import Gpu, StubMachine
from tests.support.waiting import wait_until
from worker.doctor import examine_gpus
from worker.gpu.question import Question, Unanswered
from worker.gpu.readings import FaultKind
from worker.gpu.sight import Sight
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.service import Process, Service

HOST = socket.gethostname()


@pytest.fixture
def hung(here: StubMachine) -> Iterator[StubMachine]:
    """It answers again when the test is over: a thread that hangs can't be ended."""
    here.set(Gpu("GPU-a"))
    here.hang(True)
    yield here
    here.hang(False)
    wait_until(lambda: "driver" not in {one.name for one in threading.enumerate()}, 10, "its threads to end")


def test_a_question_is_put_once_until_it_is_answered() -> None:
    may_answer = threading.Event()
    asked = []

    def ask() -> int:
        asked.append(1)
        may_answer.wait(30)
        return len(asked)

    question = Question(ask, wait_s=0.05)
    for _ in range(3):
        with pytest.raises(Unanswered):
            question.answer()
    assert (len(asked), question.is_open) == (1, True)
    may_answer.set()
    wait_until(lambda: not question.is_open, 10, "the answer")
    assert question.answer() == 1  # late, and told
    assert question.answer() == 2


def test_what_a_question_raises_is_raised() -> None:
    def ask() -> None:
        raise TimeoutError("mine")

    for _ in range(2):
        with pytest.raises(TimeoutError, match="mine"):
            Question(ask).answer()


def test_a_sight_is_not_held_by_the_driver_and_sees_again(hung: StubMachine) -> None:
    sight = Sight("GPU-a")
    assert [fault.kind for fault in sight.look().faults] == [FaultKind.SILENT]
    sight.close()
    hung.hang(False)
    wait_until(lambda: not sight.look().faults, 10, "the device to be seen")
    hung.hang(True)
    assert sight.look().faults == ()  # of a moment ago
    hung.hang(False)
    wait_until(lambda: not sight._question.is_open, 10, "the answer")
    sight.close()


@pytest.mark.usefixtures("hung")
def test_the_doctor_waits_no_longer_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.doctor.DRIVER_TIMEOUT_S", 0.2)
    (finding,) = examine_gpus(Settings())
    assert str(finding) == "FAIL  driver     the driver does not answer"


def start_pool(service: Service) -> Process:
    service.start_gateway()
    service.start_sweeper()
    pool = service.start("pool", "worker")
    service.wait(lambda: pool.said('"worker_ready"'), 60, "the worker to be ready")
    return pool


def wait_for_silence(service: Service) -> None:
    def is_red() -> bool:
        answer = service.http.get("/gpus")
        verdicts = [one["verdict"] for one in answer.json()["workers"]]
        expected = {"colour": "red", "reason": "faulty: the driver does not answer"}
        return answer.status_code == 503 and verdicts == [expected]

    service.wait(is_red, 50, "503 and the reason")


def test_a_job_outlives_the_silence_and_none_begins_in_it(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a"))
    service.settings["SIMULATED_SCRIPT"] = engine_script(machine, speed=1)
    start_pool(service)
    running, waiting = service.submit(), service.submit()
    service.wait_for(running, "processing")
    machine.hang(True)
    wait_for_silence(service)
    assert service.status(running)["status"] == "processing"
    assert service.wait_for(running, "completed")["attempt"] == 1
    wait_for_silence(service)
    assert service.status(waiting)["status"] == "pending"
    machine.hang(False)
    assert service.wait_for(waiting, "completed")["attempt"] == 1


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGQUIT])
def test_a_pool_ends_when_it_is_told_whatever_the_driver_does(
    service: Service, machine: StubMachine, order: signal.Signals
) -> None:
    machine.set(Gpu("GPU-a"))
    pool = start_pool(service)
    machine.hang(True)
    wait_for_silence(service)
    pool.signal(order)
    assert pool.popen.wait(30) == 0


def test_a_pool_that_finds_a_silent_driver_says_so_and_begins_when_it_answers(
    service: Service, machine: StubMachine
) -> None:
    machine.set(Gpu("GPU-a"))
    machine.hang(True)
    service.start_gateway()
    pool = service.start("pool", "worker")
    wait_for_silence(service)
    machine.hang(False)
    service.wait(lambda: pool.said('"worker_ready"'), 30, "the worker to be ready")
