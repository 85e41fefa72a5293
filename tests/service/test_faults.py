"""Engines that die, hang and ignore signals; workers that freeze and wake too late."""

from __future__ import annotations

import json
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

import httpx
import psutil

from worker import streams
from worker.app import TRANSCRIBE_QUEUE
from worker.jobs import Fence, JobStore
from worker.processes import REFUSED_EXIT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Process, Service


def simulated(**script: object) -> dict[str, str]:
    return {"ENGINE": "simulated", "SIMULATED_SCRIPT": json.dumps(script)}


def attempts(*workers: Process) -> int:
    return sum(worker.log.count('"job_claimed"') for worker in workers)


def test_a_job_that_kills_every_worker_ends_as_a_dead_letter(service: Service) -> None:
    service.settings = {"MAX_ATTEMPTS": "3", **simulated(misbehave="kill", at=0.2)}
    worker = service.start_all()
    task_id = service.submit()
    status = service.wait_for(task_id, "failed", 90)
    assert status["error"]["code"] == "worker_lost"
    assert status["error"]["step"] == "simulate"
    assert "3 attempts" in status["error"]["message"]
    assert attempts(worker) == 3
    assert service.http.get(f"/download/{task_id}").status_code == httpx.codes.CONFLICT
    assert worker.popen.poll() is None, "the worker died with its child"
    assert service.wait(service.outcomes, 10, "the job to be counted") == {("none", "worker_lost"): 1}


def test_an_operator_handles_dead_letters(service: Service, tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"misbehave": "kill", "at": 0.1}))
    service.settings = {"MAX_ATTEMPTS": "1", "ENGINE": "simulated", "SIMULATED_SCRIPT": str(script)}
    worker = service.start_all()
    retried, dropped = service.submit(), service.submit()
    for task_id in (retried, dropped):
        service.wait_for(task_id, "failed")

    def dead(*arguments: str, status: int = 0) -> str:
        command = service.start(f"dead-{len(service.processes)}", "ops", "dead", *arguments)
        assert command.popen.wait(20) == status
        return command.log

    listed = dead("list")
    assert retried in listed
    assert dropped in listed
    shown = dead("show", retried)
    assert '"error_step": "simulate"' in shown
    assert dead("show", "no-such-id", status=1) == "error: no dead letter of job no-such-id\n"

    dead("drop", dropped)
    script.write_text("{}")
    renew_child(service, worker)  # which reads it when it starts
    dead("retry", retried)
    assert service.wait_for(retried, "completed")["attempt"] == 1
    assert service.status(dropped)["status"] == "failed"
    with service.redis.client() as client:
        assert streams.stats(client, TRANSCRIBE_QUEUE).dead == 0


def renew_child(service: Service, worker: Process) -> None:
    loaded = worker.log.count('"engine_chosen"')
    for child in worker.children():
        child.kill()
    service.wait(lambda: worker.log.count('"engine_chosen"') > loaded, 20, "a new child to load its engine")


def test_an_engine_that_dies_once_costs_one_attempt(service: Service, tmp_path: Path) -> None:
    service.settings = simulated(misbehave="exit", at=0.2, once=str(tmp_path / "died"))
    service.start_all()
    task_id = service.submit()
    assert service.wait_for(task_id, "completed")["attempt"] == 2


def test_releasing_a_running_job_kills_it_even_if_it_ignores_signals(
    service: Service, tmp_path: Path
) -> None:
    marker = tmp_path / "hangs"
    service.settings = simulated(misbehave="hang_stubbornly", at=0.1, once=str(marker))
    worker = service.start_all()
    task_id = service.submit()
    service.wait(marker.exists, 30, "the engine to hang")
    (child,) = worker.children()

    released = time.monotonic()
    assert service.http.delete(f"/release/{task_id}").status_code == httpx.codes.NO_CONTENT
    assert time.monotonic() - released < 5
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert service.files() == []
    with service.redis.client() as client:
        assert [key for key in client.keys("*") if task_id in key] == []
    service.wait_for(service.submit(), "completed")


def test_cancelling_a_running_job_kills_it_and_keeps_its_record(service: Service, tmp_path: Path) -> None:
    marker = tmp_path / "hangs"
    service.settings = simulated(misbehave="hang_stubbornly", at=0.1, once=str(marker))
    worker = service.start_all()
    task_id = service.submit()
    service.wait(marker.exists, 30, "the engine to hang")
    (child,) = worker.children()
    answer = service.http.post(f"/cancel/{task_id}")
    assert (answer.status_code, answer.json()["stopped"]) == (httpx.codes.OK, True)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    status = service.status(task_id)
    assert (status["status"], status["error"]["code"]) == ("failed", "cancelled")
    assert status["error"]["step"] == "simulate"
    assert service.files() == []
    assert service.http.post(f"/cancel/{task_id}").status_code == httpx.codes.OK, "not safe to repeat"
    other = service.submit()
    service.wait_for(other, "completed")
    assert service.http.post(f"/cancel/{other}").json()["code"] == "already_ended"


def test_a_waiting_job_that_is_cancelled_never_runs(service: Service) -> None:
    service.start_gateway()
    cancelled, kept = service.submit(), service.submit()
    assert service.http.post(f"/cancel/{cancelled}").status_code == httpx.codes.OK
    worker = service.start_worker()
    service.wait_for(kept, "completed")
    assert service.status(cancelled)["error"]["code"] == "cancelled"
    with service.redis.client() as client:
        assert json.loads(client.get(f"celery-task-meta-{cancelled}"))["status"] == "REVOKED"
    assert [line for line in worker.log.splitlines() if cancelled in line and "job_claimed" in line] == []
    expected = {("none", "cancelled"): 1, ("cpu", "completed"): 1}
    service.wait(lambda: service.outcomes() == expected, 10, "both to be counted")


def test_a_cancel_that_no_worker_heard_of_still_stops_a_hanging_engine(
    service: Service, tmp_path: Path
) -> None:
    marker = tmp_path / "hangs"
    service.settings = simulated(misbehave="hang_stubbornly", at=0.1, once=str(marker))
    worker = service.start_all()
    task_id = service.submit()
    service.wait(marker.exists, 30, "the engine to hang")
    (child,) = worker.children()
    with service.redis.client() as client:
        JobStore(client, group=streams.GROUP, expiry_s=60).fail(
            task_id, code="cancelled", message="", step="", now=time.time(), fence=Fence.NONE
        )
    service.wait(lambda: not child.is_running(), 15, "the guard to kill the child")
    service.wait_for(service.submit(), "completed")


def test_an_engine_that_hangs_is_killed_and_the_job_runs_again(service: Service, tmp_path: Path) -> None:
    service.settings = {
        "STALL_S": "10",
        **simulated(misbehave="hang_stubbornly", at=0.1, once=str(tmp_path / "hangs")),
    }
    worker = service.start_all()
    task_id = service.submit()
    assert service.wait_for(task_id, "completed")["attempt"] == 2
    assert '"attempt_killed"' in worker.log


def test_a_task_revoked_by_celerys_own_command_is_a_cancelled_job(service: Service) -> None:
    service.settings = simulated(speed=5)
    service.start_all()
    running, waiting = service.submit(), service.submit()
    service.wait_for(running, "processing")
    for number, order in enumerate((("revoke", waiting), ("terminate", "KILL", running))):
        control = service.start(f"control-{number}", "celery", "-A", "worker", "control", *order)
        assert control.popen.wait(20) == 0
    for task_id in (running, waiting):
        service.wait(partial(has_failed, service, task_id), 20, "the record to end")
        assert service.status(task_id)["error"]["code"] == "cancelled"
    service.wait_for(service.submit(), "completed")


def has_failed(service: Service, task_id: str) -> bool:
    with service.redis.client() as client:
        return client.hget(f"job:{task_id}", "state") == "failed"


def test_a_worker_on_another_cache_takes_no_job(service: Service, tmp_path: Path) -> None:
    service.start_gateway()
    service.start_worker()
    stranger = service.start("stranger", "worker", CACHE_DIR=str(tmp_path / "other"))
    assert stranger.popen.wait(30) == REFUSED_EXIT
    assert "is not the cache that the jobs on this Redis use" in stranger.log.splitlines()[-1]


def test_a_worker_that_wakes_too_late_changes_nothing(service: Service) -> None:
    service.settings = simulated(speed=8)
    first = service.start_all()
    task_id = service.submit()
    service.wait(
        lambda: ((service.status(task_id)["progress"] or {}).get("fraction") or 0) > 0.1, 30, "some progress"
    )
    frozen = [first.pid, *(child.pid for child in first.children())]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    service.start_worker("two")
    service.wait_for(task_id, "completed")
    result = service.download(task_id)

    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    service.wait(lambda: '"outcome": "abandoned_' in first.log or not first.children(), 20, "the fence")
    service.wait(lambda: first.popen.poll() is None and first.children(), 20, "a fresh child")
    assert service.download(task_id).content == result.content
    assert service.status(task_id)["attempt"] == 2
    assert len([name for name in service.files() if task_id in name]) == 1


def test_a_job_that_outlasts_the_drain_goes_back_uncounted(service: Service) -> None:
    service.settings = {"DRAIN_S": "1", **simulated(speed=6)}
    first = service.start_all()
    task_id = service.submit()
    service.wait_for(task_id, "processing")
    first.signal(signal.SIGTERM)
    first.popen.wait(15)
    second = service.start_worker("two")
    assert service.wait_for(task_id, "completed")["attempt"] == 1
    assert attempts(second) == 1


def test_a_rolling_restart_loses_nothing_and_costs_no_attempt(service: Service) -> None:
    service.settings = {"DRAIN_S": "1", **simulated(speed=12)}
    service.start_gateway()
    service.start_sweeper()
    workers = [service.start_worker(f"old{number}") for number in range(2)]
    ids = [service.submit() for _ in range(6)]
    for number, worker in enumerate(workers):
        service.start_worker(f"new{number}")
        worker.end()
    for task_id in ids:
        assert service.wait_for(task_id, "completed", 90)["attempt"] == 1


def test_cancelling_a_job_on_a_frozen_worker_ends_it_by_its_lease(service: Service) -> None:
    service.settings = simulated(speed=4)
    first = service.start_all()
    task_id = service.submit()
    service.wait_for(task_id, "processing")
    frozen = [first.pid, *(child.pid for child in first.children())]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    answer = service.http.post(f"/cancel/{task_id}")
    # The lease of 3 s ends within the 5 s that the answer waits: what sleeps can no longer write.
    assert (answer.status_code, answer.json()["stopped"]) == (httpx.codes.OK, True)
    assert service.status(task_id)["error"]["code"] == "cancelled"
    second = service.start_worker("two")
    with service.redis.client() as client:
        service.wait(lambda: not streams.entry_count(client, TRANSCRIBE_QUEUE), 20, "the entry to end")
    assert attempts(second) == 0
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    service.wait_for(service.submit(), "completed")
    assert service.status(task_id)["error"]["code"] == "cancelled"


def test_redis_away_longer_than_the_lease_costs_no_attempt(service: Service) -> None:
    service.settings = simulated(speed=3)
    worker = service.start_all()
    task_id = service.submit()
    service.wait_for(task_id, "processing")
    service.redis.kill()
    answer = service.http.get("/queue")
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert int(answer.headers["retry-after"]) > 0
    time.sleep(5)  # the outage itself: longer than the lease of 3 s, during which nothing can be observed
    service.redis.start()
    service.wait(lambda: service.http.get("/queue").status_code == httpx.codes.OK, 20, "the gateway's return")
    assert service.wait_for(task_id, "completed")["attempt"] == 1
    assert attempts(worker) == 1


def test_after_a_wipe_of_redis_nothing_loops_and_new_jobs_run(service: Service) -> None:
    service.settings = {"ORPHAN_GRACE_S": "1", **simulated(speed=8)}
    worker = service.start_all()
    running, waiting = service.submit(), service.submit()
    service.wait_for(running, "processing")
    with service.redis.client() as client:
        client.flushall()
    for task_id in (running, waiting):
        assert service.http.get(f"/status/{task_id}").status_code == httpx.codes.NOT_FOUND
    service.wait_for(service.submit(), "completed")
    assert worker.popen.poll() is None
    service.wait(lambda: not [name for name in service.files() if running in name], 20, "the orphans to go")
    with service.redis.client() as client:
        assert [key for key in client.keys("*") if running in key] == []
