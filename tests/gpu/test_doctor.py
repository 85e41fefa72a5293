"""What the doctor says of a machine, line by line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from ops.stack import free_port
from tests.gpu.stub import DRIVER_MISMATCH, LOST, Gpu, StubMachine
from worker.doctor import Finding, Grade, examine_cache, examine_gpus, examine_redis
from worker.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from tests.support.redis_server import RedisServer
    from tests.support.service import Service


def graded(settings: Settings) -> list[tuple[Grade, str]]:
    return [(one.grade, one.what) for one in examine_gpus(settings)]


def test_a_finding_is_one_line() -> None:
    assert str(Finding(Grade.FAIL, "redis", "no answer")) == "FAIL  redis      no answer"


def test_a_good_machine(here: StubMachine) -> None:
    here.set(Gpu("GPU-a"))
    driver, device, *_ = examine_gpus(Settings())
    assert driver.text == "570.86.15, for CUDA up to 12.8"
    assert device.grade is Grade.OK
    assert device.text.startswith("0 Stub A GPU-a: 23500 of 24000 MiB free")


@pytest.mark.parametrize(
    ("gpu", "grade"),
    [
        (Gpu("GPU-a", used_mib=20_000), Grade.WARN),
        (Gpu("GPU-a", total_mib=4000, used_mib=0), Grade.FAIL),
        (Gpu("GPU-a", ecc=1), Grade.FAIL),
    ],
)
def test_a_device_that_is_full_may_empty_but_a_small_one_does_not_grow(
    here: StubMachine, gpu: Gpu, grade: Grade
) -> None:
    here.set(gpu)
    assert graded(Settings(gpu_need_mib=8000))[1] == (grade, "device")


def test_a_machine_without_a_gpu_is_no_failure_unless_one_is_wanted(here: StubMachine) -> None:
    assert graded(Settings())[-1] == (Grade.WARN, "driver")
    assert graded(Settings(device="cuda"))[-1] == (Grade.FAIL, "driver")
    assert graded(Settings(device="cpu")) == [(Grade.OK, "driver")]
    here.refuse(DRIVER_MISMATCH)
    assert graded(Settings()) == [(Grade.FAIL, "driver")]


def test_a_server_that_could_lose_jobs_fails(redis_server: RedisServer, client: redis.Redis) -> None:
    settings = Settings.model_validate({"redis_url": redis_server.url})
    assert examine_redis(settings).grade is Grade.OK
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "noeviction" in examine_redis(settings).text
    finally:
        client.config_set("maxmemory-policy", "noeviction")


def test_a_server_that_syncs_later_gets_a_warning(redis_server: RedisServer, client: redis.Redis) -> None:
    settings = Settings.model_validate({"redis_url": redis_server.url})
    client.config_set("appendfsync", "everysec")
    try:
        found = examine_redis(settings)
    finally:
        client.config_set("appendfsync", "always")
    assert found.grade is Grade.WARN
    assert "appendfsync always" in found.text


def test_the_cache_is_tried(tmp_path: Path) -> None:
    found = examine_cache(Settings(cache_dir=tmp_path / "cache", min_free_bytes=0))
    assert found.grade is Grade.OK
    full = examine_cache(Settings(cache_dir=tmp_path / "cache", min_free_bytes=2**62))
    assert (full.grade, "MIN_FREE_BYTES" in full.text) == (Grade.FAIL, True)


def test_the_whole_examination_has_an_exit_status(service: Service, machine: StubMachine) -> None:
    machine.set(Gpu("GPU-a", fault=LOST))
    healthy = service.start("doctor", "worker", "doctor", DEVICE="cpu", ENGINE="whisper")
    assert healthy.popen.wait(60) == 0
    assert [line.split()[0] for line in healthy.log.splitlines()] == ["ok"] * 4
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    ill = service.start("doctor2", "worker", "doctor", DEVICE="cpu", REDIS_URL=nobody)
    assert ill.popen.wait(60) == 1
    assert re.search(r"FAIL  redis .*REDIS_URL", ill.log)


def test_prefetch_and_check_say_whether_the_engine_is_ready(service: Service) -> None:
    for command in ("prefetch", "check"):
        ran = service.start(command, "worker", command, ENGINE="whisper")
        assert ran.popen.wait(60) == 0
        assert ran.log.startswith("engine whisper is ready")


def test_a_container_can_ask_after_its_own_workers(service: Service, machine: StubMachine) -> None:
    def asked() -> tuple[int, str]:
        ran = service.start("health", "worker", "health")
        return ran.popen.wait(20), ran.log.splitlines()[-1]

    assert asked() == (1, "red: no worker has reported")
    machine.set(Gpu("GPU-a"))
    pool = service.start("pool", "worker")
    service.wait(lambda: asked() == (0, "green: 1 green"), 60, "the worker to be well")
    pool.kill()
    service.wait(lambda: asked()[0] == 1, 60, "its silence to be noticed")
