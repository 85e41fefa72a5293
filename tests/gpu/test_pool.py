"""The pool with real workers on stub GPUs: who gets a job, who gets none, and what comes back."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from pydantic import SecretStr

from tests.gpu.conftest import engine_script
from tests.gpu.stub import DRIVER_MISMATCH, LOST, Gpu, StubMachine
from tests.sources.raw_server import RawServer, answers, serves
from tests.support.service import SAMPLE
from worker import streams
from worker.app import create_app
from worker.gpu.report import WorkerReport, read_reports
from worker.processes import REFUSED_EXIT
from worker.settings import Settings
from worker.tasks import TRANSCRIBE_QUEUE, TRANSCRIBE_TASK

if TYPE_CHECKING:
    from tests.support.service import Process, Service

HOST = socket.gethostname()


def start_pool(service: Service, workers: int = 1, **settings: str) -> Process:
    """Gateway, sweeper and a pool, once ``workers`` of its workers are ready."""
    service.start_gateway()
    service.start_sweeper()
    pool = service.start("pool", "worker", **settings)
    service.wait(lambda: pool.log.count('"worker_ready"') >= workers, 60, f"{workers} workers to be ready")
    service.wait(lambda: len(reports(service)) >= workers, 10, "their first reports")
    return pool


def reports(service: Service) -> dict[str, WorkerReport]:
    with service.redis.client() as client:
        return {report.worker: report for report in read_reports(client, time.time())}


def wait_for_state(service: Service, name: str, *states: str, timeout_s: float = 30) -> WorkerReport:
    return service.wait(
        lambda: (found := reports(service).get(name)) is not None and found.state in states and found,
        timeout_s,
        f"{name} to be {' or '.join(states)}; it was {reports(service).get(name)}",
    )


def record(service: Service, task_id: str) -> dict[str, Any]:
    with service.redis.client() as client:
        return dict(client.hgetall(f"job:{task_id}"))


def stats(service: Service) -> streams.QueueStats:
    with service.redis.client() as client:
        return streams.stats(client, TRANSCRIBE_QUEUE)


def test_two_devices_share_jobs_evenly_and_each_has_its_own(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a"), Gpu("GPU-b"))
    pool = start_pool(service, 2)
    ids = [service.submit() for _ in range(20)]
    for task_id in ids:
        service.wait_for(task_id, "completed", 90)
    done = Counter(record(service, task_id)["worker"] for task_id in ids)
    assert set(done) == {f"gpu0@{HOST}", f"gpu1@{HOST}"}
    assert min(done.values()) >= 8, done
    assert {path.name.rpartition(".")[0] for path in machine.claims.iterdir()} == {"GPU-a", "GPU-b"}
    assert pool.end() == 0
    assert reports(service) == {}


def test_a_full_device_takes_no_job_and_says_why(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a", used_mib=20_000), Gpu("GPU-b"))
    start_pool(service, 2)
    ids = [service.submit() for _ in range(6)]
    for task_id in ids:
        service.wait_for(task_id, "completed")
    assert {record(service, task_id)["worker"] for task_id in ids} == {f"gpu1@{HOST}"}
    report = wait_for_state(service, f"gpu0@{HOST}", "refusing")
    assert report.reason == "4000 MiB are free, and the engine needs 8000 MiB"
    assert not report.model_loaded


def test_room_that_a_stranger_gives_back_is_used(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a", used_mib=23_000))
    start_pool(service)
    task_id = service.submit()
    wait_for_state(service, f"gpu0@{HOST}", "refusing")
    assert record(service, task_id)["state"] == "waiting"
    machine.change(0, used_mib=500)
    service.wait_for(task_id, "completed")
    assert record(service, task_id)["attempt"] == "1"
    machine.change(0, used_mib=16_000)  # beside our 8000: a loaded model needs no more room
    service.wait_for(service.submit(), "completed")


def test_a_hot_device_takes_no_job_until_it_has_cooled(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a"))
    start_pool(service)
    machine.change(0, temperature=95)
    assert "95 °C" in wait_for_state(service, f"gpu0@{HOST}", "refusing").reason
    task_id = service.submit()
    machine.change(0, temperature=60)
    service.wait_for(task_id, "completed")


@pytest.mark.parametrize("fault", [{"fault": LOST}, {"ecc": 3}, {"xid": "79 1"}])
def test_a_device_that_fails_amid_a_job_costs_it_no_attempt(
    service: Service, machine: StubMachine, fault: dict[str, Any]
) -> None:
    machine.set(Gpu("GPU-a"))
    service.settings["SIMULATED_SCRIPT"] = engine_script(machine, speed=5)
    start_pool(service)
    task_id = service.submit()
    service.wait(lambda: record(service, task_id).get("step") == "simulate", 20, "the engine to run")
    machine.change(0, **fault)
    service.wait(lambda: record(service, task_id).get("state") == "waiting", 20, "the job to go back")
    if "xid" not in fault:  # an Xid is over when it has been told
        wait_for_state(service, f"gpu0@{HOST}", "faulty", "missing")  # the driver stops listing what is lost
        machine.change(0, fault=0, ecc=0)
    status = service.wait_for(task_id, "completed")
    assert status["attempt"] == 1


def test_a_device_that_vanishes_is_dropped_and_taken_back(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a"), Gpu("GPU-b"))
    start_pool(service, 2)
    machine.set(Gpu("GPU-b"))
    wait_for_state(service, f"gpu0@{HOST}", "missing")
    service.wait_for(service.submit(), "completed")
    machine.set(Gpu("GPU-a"), Gpu("GPU-b"))
    wait_for_state(service, f"gpu0@{HOST}", "ready")


def test_a_gpu_that_is_lost_is_red_whether_it_is_the_only_one_or_not(
    service: Service, machine: StubMachine
) -> None:
    machine.set(Gpu("GPU-a", fault=LOST))
    service.start_gateway()
    pool = service.start("pool", "worker")  # not: one worker, on the CPU
    assert "GPU is lost" in wait_for_state(service, f"gpu@{HOST}", "faulty").reason
    machine.set(Gpu("GPU-a", fault=LOST), Gpu("GPU-b"))
    wait_for_state(service, f"gpu1@{HOST}", "ready")
    assert "GPU is lost" in wait_for_state(service, f"gpu0@{HOST}", "faulty").reason  # unknown as it is
    machine.change(0, fault=0)
    service.wait(lambda: pool.log.count('"worker_ready"') == 2, 60, "both workers to be ready")
    machine.change(0, fault=LOST)
    service.wait(lambda: '"worker_ended"' in pool.log, 30, "the worker to leave its device")
    told = wait_for_state(service, f"gpu0@{HOST}", "faulty")
    shown = [report.reason for report in (told, reports(service)[f"gpu0@{HOST}"])]
    assert shown == ["NVML says: GPU is lost"] * 2
    machine.change(0, fault=0)
    wait_for_state(service, f"gpu0@{HOST}", "ready")


def test_a_pool_outlives_what_redis_refuses(service: Service, machine: StubMachine) -> None:
    """As it does all writes when its disk is full."""
    machine.set(Gpu("GPU-a"), Gpu("GPU-b"))
    pool = start_pool(service, 2)
    machine.change(1, fault=LOST)  # of such a device the pool itself reports
    wait_for_state(service, f"gpu1@{HOST}", "faulty")
    with service.redis.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-hset")
        told = '"error": "NoPermissionError", "event": "report_missed"'
        service.wait(lambda: told in pool.log or pool.popen.poll() is not None, 20, "a report to be refused")
        client.execute_command("ACL", "SETUSER", "default", "+hset")
    assert pool.popen.poll() is None
    service.wait_for(service.submit(), "completed")


def test_a_cuda_error_replaces_the_worker_and_counts(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a"))
    once = str(service.folder / "failed")
    service.settings["SIMULATED_SCRIPT"] = engine_script(machine, misbehave="cuda_error", once=once)
    pool = start_pool(service)
    first = [child.pid for child in pool.children()]
    status = service.wait_for(service.submit(), "completed")
    assert status["attempt"] == 2
    assert '"device_faulty"' in pool.log
    assert not {child.pid for child in pool.children()} & set(first)


def test_a_full_gpu_amid_a_job_gives_its_memory_back_before_the_next_attempt(
    service: Service, machine: StubMachine
) -> None:
    machine.set(Gpu("GPU-a"))
    once = str(service.folder / "full")
    service.settings["SIMULATED_SCRIPT"] = engine_script(machine, misbehave="gpu_oom", once=once)
    pool = start_pool(service)
    before = {path.name for path in machine.claims.iterdir()}
    status = service.wait_for(service.submit(), "completed")
    assert status["attempt"] == 2
    assert '"child_replaced"' in pool.log
    assert {path.name for path in machine.claims.iterdir()} - before


@pytest.mark.parametrize("trouble", [{"temperature": 95}, {"fault": LOST}])
def test_a_retry_that_waits_for_its_time_asks_the_device_then(
    service: Service, machine: StubMachine, trouble: dict[str, int]
) -> None:
    """Its worker holds it meanwhile; the device gets hot or lost before its time has come."""
    machine.set(Gpu("GPU-a"))
    service.settings |= {"URL_ALLOW_PRIVATE": "true", "URL_TRIES": "1"}
    pool = start_pool(service)
    with RawServer([answers(503, Retry_After=6), serves(SAMPLE.read_bytes())]) as server:
        task_id = service.http.post("/transcribe", json={"url": server.url("/a.wav")}).json()["task_id"]
        received = f"[{task_id}] received"
        service.wait(lambda: pool.log.count(received) == 2, 20, "the worker to hold the retry")
        machine.change(0, **trouble)
        service.wait(lambda: stats(service).waiting == 1, 20, "the worker to give the retry back")
        assert record(service, task_id)["state"] == "waiting"
        machine.change(0, temperature=40, fault=0)
        assert service.wait_for(task_id, "completed")["attempt"] == 2


def test_an_engine_that_can_not_be_loaded_again_costs_the_worker_not_the_job(
    service: Service, machine: StubMachine
) -> None:
    """After an idle time the engine loads with a job; its model may have gone meanwhile."""
    machine.set(Gpu("GPU-a"))
    script = service.folder / "script.json"
    script.write_text(engine_script(machine))
    pool = start_pool(service, IDLE_UNLOAD_S="2", SIMULATED_SCRIPT=str(script))
    name = f"gpu0@{HOST}"
    service.wait(
        lambda: (report := reports(service).get(name)) and not report.model_loaded,
        30,
        "the model to be unloaded",
    )
    wait_for_state(service, name, "ready")
    script.write_text("{}{")
    task_id = service.submit()
    service.wait(lambda: '"event": "engine_unavailable"' in pool.log, 30, "the worker to find out")
    assert pool.popen.wait(30) == REFUSED_EXIT
    script.write_text(engine_script(machine))
    start_pool(service, SIMULATED_SCRIPT=str(script))
    assert service.wait_for(task_id, "completed")["attempt"] == 2


def test_instances_of_a_split_gpu_have_a_worker_each(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a", instances=(Gpu("MIG-1", total_mib=10_000), Gpu("MIG-2", total_mib=10_000))))
    start_pool(service, 2)
    ids = [service.submit() for _ in range(6)]
    for task_id in ids:
        service.wait_for(task_id, "completed")
    found = reports(service)
    assert set(found) == {f"gpu0.0@{HOST}", f"gpu0.1@{HOST}"}
    assert {one.device.uuid for one in found.values() if one.device} == {"MIG-1", "MIG-2"}


def test_a_killed_worker_comes_back_and_a_killed_pool_leaves_nobody(
    service: Service, machine: StubMachine
) -> None:
    machine.set(Gpu("GPU-a"))
    pool = start_pool(service, JOBS_PER_GPU="2")
    service.wait(lambda: pool.log.count('"worker_ready"') == 2, 30, "both workers")
    assert set(reports(service)) <= {f"gpu0@{HOST}", f"gpu0-2@{HOST}"}
    workers = psutil.Process(pool.pid).children()
    workers[0].kill()
    service.wait(lambda: pool.log.count('"worker_ready"') == 3, 30, "the killed one's successor")
    family = pool.children()
    assert len(family) == 4
    pool.kill()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


@pytest.mark.parametrize(("total_mib", "loaded"), [(12_000, 1), (24_000, 2)])
def test_of_two_workers_of_a_device_as_many_load_as_there_is_room_for(
    service: Service, machine: StubMachine, total_mib: int, loaded: int
) -> None:
    machine.set(Gpu("GPU-a", total_mib=total_mib))
    service.settings["SIMULATED_SCRIPT"] = engine_script(machine, speed=5)
    service.start_gateway()
    service.start_sweeper()
    service.start("pool", "worker", JOBS_PER_GPU="2")
    for name in (f"gpu0@{HOST}", f"gpu0-2@{HOST}"):
        wait_for_state(service, name, "ready", "refusing")
    for task_id in [service.submit() for _ in range(4)]:
        assert service.wait_for(task_id, "completed")["attempt"] == 1
    assert len(list(machine.claims.iterdir())) == loaded


def test_memory_is_given_back_when_there_is_no_work_and_taken_again(
    service: Service, machine: StubMachine
) -> None:
    machine.set(Gpu("GPU-a"))
    start_pool(service, IDLE_UNLOAD_S="3")
    name = f"gpu0@{HOST}"
    report = service.wait(
        lambda: (found := reports(service).get(name)) and not found.model_loaded and found,
        30,
        "the model to be unloaded",
    )
    report = wait_for_state(service, name, "ready")
    assert report.device is not None
    assert report.device.used_bytes == 500 * 1024**2
    status = service.wait_for(service.submit(), "completed")
    assert status["attempt"] == 1


def test_a_job_whose_time_has_not_come_keeps_no_memory(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a"))
    service.start("pool", "worker", IDLE_UNLOAD_S="2")  # no sweeper: it removes entries without a job
    wait_for_state(service, f"gpu0@{HOST}", "ready")
    app = create_app(Settings(redis_url=SecretStr(service.redis.url)))
    app.send_task(TRANSCRIBE_TASK, queue=TRANSCRIBE_QUEUE, countdown=600)
    app.close()
    service.wait(lambda: stats(service).in_flight == 1, 20, "the worker to hold it")
    name = f"gpu0@{HOST}"
    service.wait(lambda: not reports(service)[name].model_loaded, 30, "the model to be unloaded")
    assert wait_for_state(service, name, "ready").admitted


@pytest.mark.parametrize("limit", [{"RECYCLE_AFTER_JOBS": "2"}, {"RECYCLE_ABOVE_MIB": "1"}])
def test_children_are_replaced_after_some_jobs_and_none_is_lost(
    service: Service, machine: StubMachine, limit: dict[str, str]
) -> None:
    machine.set(Gpu("GPU-a"))
    pool = start_pool(service, **limit)
    before = {child.pid for child in pool.children()}
    for task_id in [service.submit() for _ in range(9)]:
        assert service.wait_for(task_id, "completed")["attempt"] == 1
    assert len({child.pid for child in pool.children()} - before) == 1  # the child; its parent stays


def test_sigterm_lets_every_worker_finish_its_job(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a"), Gpu("GPU-b"))
    service.settings["SIMULATED_SCRIPT"] = engine_script(machine, speed=10)
    pool = start_pool(service, 2)
    ids = [service.submit(), service.submit()]
    service.wait(lambda: all(record(service, one)["state"] == "running" for one in ids), 20, "both to run")
    pool.signal(signal.SIGTERM)
    assert pool.popen.wait(30) == 0
    assert {record(service, one)["state"] for one in ids} == {"completed"}


def test_a_driver_that_does_not_fit_is_red_and_is_tried_again(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a"))
    machine.refuse(DRIVER_MISMATCH)
    service.start_gateway()
    pool = service.start("pool", "worker")
    report = wait_for_state(service, f"gpu@{HOST}", "faulty")
    assert "mismatch" in report.reason
    machine.refuse(0)
    service.wait(lambda: pool.said('"worker_ready"'), 30, "the worker")
    assert f"gpu@{HOST}" not in reports(service)


def test_without_a_gpu_there_is_one_worker_on_the_cpu_and_it_says_so(service: Service) -> None:
    pool = start_pool(service)
    assert '"no_gpu"' in pool.log
    service.wait_for(service.submit(), "completed")
    (report,) = reports(service).values()
    assert report.device is None
    assert "no GPU was found" in report.degraded


def test_without_a_gpu_and_with_the_wish_for_one_there_is_an_error(service: Service) -> None:
    worker = service.start("worker", "worker", DEVICE="cuda")
    assert worker.popen.wait(30) == REFUSED_EXIT
    assert worker.log.splitlines()[-1].startswith("error: no GPU was found, and DEVICE=cuda wants one")


def test_a_pool_whose_workers_all_refuse_ends_with_the_reason(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a"))
    service.settings["SIMULATED_SCRIPT"] = json.dumps({"speeed": 1})
    pool = service.start("pool", "worker")
    assert pool.popen.wait(30) == REFUSED_EXIT
    assert "SIMULATED_SCRIPT" in pool.log.splitlines()[-1]
