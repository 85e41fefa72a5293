"""Redis frozen, stopped and lost between two steps of a submit; a client that stalls; a bug of our own."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from structlog.testing import capture_logs

from gateway.__main__ import listen, server_config
from gateway.app import create_app
from gateway.dispatch import Dispatch
from gateway.services import create_services
from gateway.upload import Receiver
from tests.gateway.jobs import MIB, is_published, wav
from tests.gateway.raw import PART_HEAD, connect, post_head, read_answer
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from worker.app import create_app as create_celery
from worker.cache import Cache, remove_orphans
from worker.jobs import Admission, JobRecord, JobStore, new_task_id
from worker.settings import Settings
from worker.streams import GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gateway.services import Services
    from tests.support.service import Service
    from worker.jobs import Priority

FILES = {"file": ("a.wav", wav(), "audio/wav")}


def assert_away(service: Service) -> None:
    """Every endpoint that needs Redis says so, and says when to come back."""
    for method, path in [
        ("GET", f"/status/{new_task_id()}"),
        ("GET", f"/download/{new_task_id()}"),
        ("DELETE", f"/release/{new_task_id()}"),
        ("GET", "/queue"),
    ]:
        answer = service.http.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (503, "broker_away"), path
        assert answer.headers["retry-after"] == "5"
    answer = service.http.post("/transcribe", files=FILES)
    assert (answer.status_code, answer.json()["code"]) == (503, "broker_away")
    assert not service.files()


def assert_works(service: Service) -> None:
    wait_until(lambda: service.http.get("/queue").status_code == 200, 10, "the gateway to find Redis again")
    answer = service.http.post("/transcribe", files=FILES)
    assert answer.status_code == 202
    assert service.http.get(answer.headers["location"]).json()["status"] == "pending"
    with service.redis.client() as client:
        assert is_published(client, answer.json()["task_id"])


def assert_not_ready_soon(service: Service) -> None:
    began = time.monotonic()
    answer = service.http.get("/health/ready")
    assert answer.status_code == 503
    assert time.monotonic() - began < 2.5
    assert service.http.get("/health/live", timeout=1).status_code == 200


def test_a_frozen_redis(fragile: Service) -> None:
    assert_works(fragile)
    kept = fragile.files()
    fragile.redis.freeze()
    assert_not_ready_soon(fragile)
    answer = fragile.http.post("/transcribe", files=FILES)
    assert (answer.status_code, answer.json()["code"]) == (503, "broker_away")
    assert "retry-after" in answer.headers
    assert fragile.http.get("/queue").status_code == 503
    assert fragile.files() == kept
    fragile.redis.thaw()
    assert_works(fragile)


def test_a_stopped_redis(fragile: Service) -> None:
    assert_works(fragile)  # so that there are connections to break
    for _, folder in Cache(fragile.cache).folders():
        folder.remove()
    fragile.redis.stop()
    assert_not_ready_soon(fragile)
    assert_away(fragile)
    fragile.redis.start()
    assert_works(fragile)


def test_a_gateway_killed_in_the_middle_of_an_upload(fragile: Service) -> None:
    """What is left is a folder that no record knows: the sweeper's to remove."""
    cache = Cache(fragile.cache)
    with connect(fragile) as connection:
        connection.sendall(post_head("Content-Length: 1000000") + PART_HEAD + wav(100))
        wait_until(lambda: list(cache.folders()), 5, "the upload to be under way")
        fragile.processes[0].kill()
    with fragile.redis.client() as client:
        store = JobStore(client, group=GROUP, expiry_s=3600)
        assert (store.counts().waiting, store.counts().running) == (0, 0)
        assert len(remove_orphans(cache, store, grace_s=-1)) == 1
    assert not list(cache.folders())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    started = RedisServer(tmp_path / "redis").start()
    yield started
    started.stop()


class LosesRedisBeforePublishing(Dispatch):
    before: Callable[[], object]

    def publish(self, task_id: str, priority: Priority) -> None:
        self.before()
        super().publish(task_id, priority)


class LosesRedisBeforeAccepting(JobStore):
    before: Callable[[], object]

    def accept(self, record: JobRecord, **limits: Any) -> Admission:
        self.before()
        return super().accept(record, **limits)


class WaitsBeforeAccepting(JobStore):
    is_in, may_go_on = threading.Event(), threading.Event()

    def accept(self, record: JobRecord, **limits: Any) -> Admission:
        self.is_in.set()
        assert self.may_go_on.wait(20)
        return super().accept(record, **limits)


@contextmanager
def serving(services: Services) -> Iterator[str]:
    """The application on a real port, in a thread of this process; its address.

    Its log is captured: unconfigured, structlog draws a crash with all local variables, for seconds.
    """
    listener = listen(services.settings)
    server = uvicorn.Server(server_config(create_app(services.settings, services)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started, 10, "the server to be up")
        with capture_logs():
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def services_on(server: RedisServer, folder: Path) -> Services:
    fields = {"redis_url": server.url, "cache_dir": folder, "gateway_port": 0, "min_free_bytes": 0}
    return create_services(Settings.model_validate(fields))


def test_redis_lost_between_accepting_and_publishing(server: RedisServer, tmp_path: Path) -> None:
    """The job counts as accepted: it is there when Redis is back, for the sweeper to publish."""
    services = services_on(server, tmp_path / "cache")
    dispatch = LosesRedisBeforePublishing(create_celery(services.settings))
    dispatch.before = server.kill
    with serving(dataclasses.replace(services, dispatch=dispatch)) as url:
        answer = httpx.post(f"{url}/transcribe", files=FILES, timeout=30)
    assert answer.status_code == 202
    task_id = answer.json()["task_id"]
    assert services.cache.folder(task_id).input.exists()
    server.start()
    assert services.store.known([task_id])


def test_redis_lost_before_it_could_accept(server: RedisServer, tmp_path: Path) -> None:
    """Whether it took the job is not known: the client is told, and the recording stays."""
    services = services_on(server, tmp_path / "cache")
    store = LosesRedisBeforeAccepting(services.client, group=GROUP, expiry_s=3600)
    store.before = server.kill
    with serving(dataclasses.replace(services, store=store)) as url:
        answer = httpx.post(f"{url}/transcribe", files=FILES, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (503, "broker_away")
    ((task_id, folder),) = services.cache.folders()
    assert folder.input.exists()
    assert f"/status/{task_id}" in answer.json()["detail"]
    assert "retry-after" in answer.headers


def test_redis_back_in_time_to_accept(server: RedisServer, tmp_path: Path) -> None:
    """The second try is answered, so nobody notices."""
    services = services_on(server, tmp_path / "cache")
    store = LosesRedisBeforeAccepting(services.client, group=GROUP, expiry_s=3600)
    breaks: Iterator[Callable[[], object]] = iter([server.kill, server.start])

    def strike() -> None:
        next(breaks)()

    store.before = strike
    with serving(dataclasses.replace(services, store=store)) as url:
        answer = httpx.post(f"{url}/transcribe", files=FILES, timeout=30)
        assert answer.status_code == 202
        assert httpx.get(url + answer.headers["location"]).json()["position"] == 1


def test_a_shutdown_that_can_not_wait_parts_no_steps(server: RedisServer, tmp_path: Path) -> None:
    """The request is cancelled; the process ends once its thread has accepted and published the job."""
    services = services_on(server, tmp_path / "cache")
    store = WaitsBeforeAccepting(services.client, group=GROUP, expiry_s=3600)
    listener = listen(services.settings)
    config = server_config(create_app(services.settings, dataclasses.replace(services, store=store)))
    config.timeout_graceful_shutdown = 1
    gateway = uvicorn.Server(config)
    thread = threading.Thread(target=gateway.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        sent = PART_HEAD + wav() + b"\r\n--B--\r\n"
        with socket.create_connection(listener.getsockname(), timeout=10) as connection:
            connection.sendall(post_head(f"Content-Length: {len(sent)}") + sent)
            assert store.is_in.wait(10)
            gateway.should_exit = True
            thread.join(4)  # the time to be cancelled in, and more
            assert thread.is_alive()
            store.may_go_on.set()
            thread.join(10)
            assert not thread.is_alive()
    finally:
        store.may_go_on.set()
        listener.close()
    ((task_id, folder),) = services.cache.folders()
    with server.client() as client:
        assert is_published(client, task_id)
    assert folder.input.read_bytes() == wav()


def test_a_crash_is_a_problem_without_its_text(server: RedisServer, tmp_path: Path) -> None:
    class Broken(JobStore):
        def counts(self) -> tuple[int, int, float | None]:
            raise ZeroDivisionError("secret text")

    services = services_on(server, tmp_path / "cache")
    store = Broken(services.client, group=GROUP, expiry_s=3600)
    with serving(dataclasses.replace(services, store=store)) as url:
        answer = httpx.get(f"{url}/queue")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "secret" not in answer.text


def test_a_client_that_stalls_is_sent_away(server: RedisServer, tmp_path: Path) -> None:
    services = services_on(server, tmp_path / "cache")
    impatient = Receiver(services.cache, MIB, idle_s=0.2)
    with serving(dataclasses.replace(services, receiver=impatient)) as url:
        port = httpx.URL(url).port
        with socket.create_connection(("127.0.0.1", port or 0), timeout=10) as connection:
            connection.sendall(post_head("Content-Length: 1000000") + PART_HEAD + wav(100))
            status, text = read_answer(connection)
    assert (status, '"upload_stalled"' in text) == (408, True)
    assert not list(services.cache.folders())
