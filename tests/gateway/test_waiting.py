"""Long polls and event streams: early answers, a thousand idle waiters, Redis away, a gateway that stops."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import httpx
import psutil
import pytest
import redis
import redis.asyncio
from pydantic import SecretStr

from gateway import events as gateway_events
from gateway.__main__ import Server, server_config
from gateway.app import create_app
from gateway.changes import STALE_S, Changes, Topic
from gateway.keys import Role, line_of, new_secret
from gateway.status import JobStatus, Status, next_status, view
from ops.stack import free_port
from tests.gateway.jobs import Jobs, started
from tests.support.waiting import wait_until
from worker.cache import Cache
from worker.jobs import Fence, JobRecord, JobState
from worker.jobs.keys import CHANGES
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.redis_server import RedisServer
    from tests.support.service import Process, Service

WAITERS = 1000
SOON_S = STALE_S * 2 / 3  # only what was heard comes so soon
MOST_THREADS = 120  # all pools full: 40 of anyio, 48 for uploads, and a few; other tests may have filled them
MOST_CONNECTIONS = 120  # to Redis: two a thread that reads


@dataclass
class Waiter:
    """A raw connection that asks for something and keeps all that it is told."""

    heard: bytes = b""
    closed: bool = False

    async def ask(self, port: int, path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        try:
            while chunk := await reader.read(65536):
                self.heard += chunk
        finally:
            self.closed = True
            writer.close()


@dataclass
class Crowd:
    """Many waiters, on one loop in a thread of the test."""

    port: int
    paths: list[str]
    waiters: list[Waiter] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.waiters = [Waiter() for _ in self.paths]
        self._runner = asyncio.Runner()
        self._thread = _in_thread(lambda: self._runner.run(self._ask()))
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)
        self._runner.close()
        assert not self._thread.is_alive()

    async def _ask(self) -> None:
        pairs = zip(self.waiters, self.paths, strict=True)
        async with asyncio.timeout(50):
            await asyncio.gather(*(waiter.ask(self.port, path) for waiter, path in pairs))

    @property
    def answered(self) -> int:
        return sum(waiter.closed for waiter in self.waiters)

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(waiter.heard.partition(b"\r\n\r\n")[2]) for waiter in self.waiters]


def _in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def is_watched(client: redis.Redis) -> bool:
    """Whether a gateway listens, and has read a waiting job since the server's figures were reset."""
    listens = client.pubsub_numsub(CHANGES)[0][1] > 0
    return listens and "cmdstat_zrank" in client.info("commandstats")


def gateway_of(service: Service) -> Process:
    return next(p for p in reversed(service.processes) if p.name == "gateway")


def fail(jobs: Jobs, task_id: str) -> None:
    jobs.store.fail(task_id, code="not_audio", message="no", step="", now=time.time(), fence=Fence.NONE)


@pytest.fixture
def slow_http(served: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=str(served.http.base_url), timeout=70) as http:
        yield http


def test_a_long_poll_ends_when_the_status_changes(served: Service, jobs: Jobs) -> None:
    task_id = jobs.wait()
    jobs.client.config_resetstat()
    with Crowd(served.port, [f"/status/{task_id}?wait_s=60"]) as crowd:
        wait_until(lambda: is_watched(jobs.client), 10, "the wait to begin")
        assert crowd.answered == 0
        lease = jobs.deliver()
        jobs.store.claim(task_id, lease, attempt=1, worker="w", now=time.time())
        wait_until(lambda: crowd.answered, SOON_S, "the answer")
    assert [body["status"] for body in crowd.bodies()] == ["processing"]


def test_a_long_poll_is_bounded_and_of_an_ended_job_answers_at_once(
    served: Service, jobs: Jobs, slow_http: httpx.Client
) -> None:
    waiting, done = jobs.wait(), jobs.complete()
    started = time.monotonic()
    assert slow_http.get(f"/status/{waiting}?wait_s=0.3").json()["status"] == "pending"
    assert time.monotonic() - started >= 0.3
    assert slow_http.get(f"/status/{done}?wait_s=60").json()["status"] == "completed"
    assert served.http.get("/status/nonsense?wait_s=60").status_code == 404
    for wrong in ("61", "-1", "x", "nan"):
        refused = served.http.get(f"/status/{waiting}?wait_s={wrong}")
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request"), wrong


def test_a_released_job_ends_the_wait(served: Service, jobs: Jobs) -> None:
    task_id = jobs.wait()
    with Crowd(served.port, [f"/status/{task_id}?wait_s=60", f"/events/{task_id}"]) as crowd:
        wait_until(lambda: crowd.waiters[1].heard, 10, "the first event")
        assert served.http.delete(f"/release/{task_id}").status_code == 204
    assert crowd.waiters[0].heard.startswith(b"HTTP/1.1 410 ")
    assert b'event: error\ndata: {"type":"urn:transcription:error:gone"' in crowd.waiters[1].heard


def test_events_tell_progress_and_end_with_the_end(
    served: Service, jobs: Jobs, slow_http: httpx.Client
) -> None:
    task_id = jobs.run()
    lease = jobs.lease(task_id)
    told: list[tuple[str, dict[str, Any]]] = []
    with slow_http.stream("GET", f"/events/{task_id}") as stream:
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        chunks = stream.iter_text()
        told += events(next(chunks))
        started = time.monotonic()
        for fraction in (0.1, 0.2, 0.3, 0.4, 0.5):
            fields = {"step": "transcribe", "step_number": 2, "step_of": 2, "fraction": fraction}
            assert jobs.store.report(task_id, lease, fields)
            while not told[-1][1]["progress"] or told[-1][1]["progress"]["fraction"] != fraction:
                told += events(next(chunks))
        fail(jobs, task_id)
        for chunk in chunks:
            told += events(chunk)
        assert time.monotonic() - started < SOON_S
    assert {name for name, _ in told} == {"status"}
    assert told[0][1]["status"] == "processing"
    assert (told[-1][1]["status"], told[-1][1]["error"]["code"]) == ("failed", "not_audio")
    assert [status["status"] for _, status in told].count("failed") == 1
    assert served.http.get(f"/status/{task_id}").json() == told[-1][1]


def test_events_of_an_ended_or_unknown_job(served: Service, jobs: Jobs) -> None:
    answer = served.http.get(f"/events/{jobs.complete()}")
    [(name, status)] = events(answer.text)
    assert (answer.status_code, name, status["status"]) == (200, "status", "completed")
    assert served.http.get("/events/nonsense").json()["code"] == "not_found"


def test_a_thousand_idle_waiters_cost_no_thread_and_no_connection_each(served: Service, jobs: Jobs) -> None:
    gateway = psutil.Process(gateway_of(served).pid)
    shared, others = jobs.wait(), [jobs.wait() for _ in range(WAITERS // 2)]
    paths = [f"/events/{shared}" for _ in range(WAITERS // 2)] + [f"/status/{t}?wait_s=60" for t in others]
    with Crowd(served.port, paths) as crowd:
        half = crowd.waiters[: WAITERS // 2]
        wait_until(lambda: all(waiter.heard for waiter in half), 30, "every stream to have begun")
        wait_until(lambda: len(gateway.net_connections("tcp")) > WAITERS, 30, "every connection to be there")
        wait_until(lambda: gateway.cpu_percent(0.3) < 20, 30, "the gateway to have settled")
        assert crowd.answered == 0
        assert gateway.num_threads() < MOST_THREADS
        assert len(jobs.client.client_list()) < MOST_CONNECTIONS
        started = time.monotonic()
        assert served.http.get("/health/live").status_code == 200
        assert time.monotonic() - started < 1
        for task_id in (shared, *others):
            fail(jobs, task_id)
    assert all(b'"status":"failed"' in waiter.heard for waiter in crowd.waiters)


def test_a_stream_without_news_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_events, "HEARTBEAT_S", 0.01)
    status = view(JobRecord(id="t", state=JobState.WAITING, created_at=1), Status.PENDING, 1, None)

    async def read() -> JobStatus:
        return status

    async def heard() -> list[str]:
        changes = Changes[JobStatus](redis.asyncio.Redis(port=free_port()))
        stream = gateway_events.news_of(changes, "t", read, status)
        found = [await anext(stream) for _ in range(3)]
        changes.dismiss()
        assert [chunk async for chunk in stream] == []
        await changes.close()
        return found

    assert asyncio.run(heard()) == [
        gateway_events.event("status", status),
        ": still here\n\n",
        ": still here\n\n",
    ]


def test_a_client_that_goes_is_forgotten(redis_server: RedisServer, tmp_path: Path) -> None:
    settings = Settings(redis_url=SecretStr(redis_server.url), cache_dir=tmp_path)
    app = create_app(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(server_config(app), app.state.changes.dismiss)
    thread = _in_thread(lambda: server.run(sockets=[listener]))
    try:
        with redis_server.client() as client:
            task_id = Jobs(client, Cache(tmp_path)).wait()
        with socket.create_connection(listener.getsockname(), timeout=10) as connection:
            connection.sendall(f"GET /events/{task_id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(1)
            wait_until(lambda: app.state.changes._topics, 10, "the stream to wait")
        wait_until(lambda: not app.state.changes._topics, 10, "the stream to be forgotten")
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
    assert not thread.is_alive()


def test_a_job_store_that_is_away_for_a_moment_does_not_end_a_long_poll() -> None:
    waiting = JobRecord(id="t", state=JobState.WAITING, created_at=1)
    first = view(waiting, Status.PENDING, 1, None)
    running = view(waiting, Status.PROCESSING, None, None)
    replies: list[object] = [redis.ConnectionError(), first, redis.TimeoutError(), running]

    async def read() -> JobStatus:
        topic.wake()
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        assert isinstance(reply, JobStatus)
        return reply

    async def poll() -> JobStatus:
        return await next_status(Changes(redis.asyncio.Redis()), topic, first, 50)

    topic = Topic(read)
    assert asyncio.run(poll()) == running


def test_waiters_outlive_redis(fragile: Service) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(fragile.redis.client())
        task_id = Jobs(client, Cache(fragile.cache)).wait()
        client.config_resetstat()
        poll = stack.enter_context(Crowd(fragile.port, [f"/status/{task_id}?wait_s=60"]))
        wait_until(lambda: is_watched(client), 10, "the wait to begin")
        stream = stack.enter_context(Crowd(fragile.port, [f"/events/{task_id}"]))
        wait_until(lambda: stream.waiters[0].heard, 10, "the first event")
        fragile.redis.kill()
        fragile.redis.start()
        after = stack.enter_context(fragile.redis.client())
        fail(Jobs(after, Cache(fragile.cache)), task_id)  # most likely nobody listens yet
        wait_until(lambda: poll.answered and stream.answered, SOON_S, "the answers")
    for waiter in (*poll.waiters, *stream.waiters):
        assert waiter.heard.startswith(b"HTTP/1.1 200 ")
        assert b'"status":"failed"' in waiter.heard


def test_a_gateway_that_stops_lets_its_waiters_go(fragile: Service) -> None:
    with fragile.redis.client() as client:
        task_id = Jobs(client, Cache(fragile.cache)).wait()
        client.config_resetstat()
        poll = Crowd(fragile.port, [f"/status/{task_id}?wait_s=60"])
        stream = Crowd(fragile.port, [f"/events/{task_id}"])
        with poll:
            wait_until(lambda: is_watched(client), 10, "the wait to begin")
            with stream:
                wait_until(lambda: stream.waiters[0].heard, 10, "the first event")
                started = time.monotonic()
                assert gateway_of(fragile).end() in (0, -15)
                assert time.monotonic() - started < 10
    assert b'"status":"pending"' in poll.waiters[0].heard
    assert stream.waiters[0].heard.endswith(b"0\r\n\r\n")


def test_another_keys_job_can_not_be_waited_for(tmp_path: Path) -> None:
    """Not even while its owner waits, whose reads are shared."""
    secrets = {name: new_secret() for name in ("ann", "bob")}
    keys = ",".join(line_of(name, secret, Role.CLIENT) for name, secret in secrets.items())
    service = started(tmp_path, API_KEYS=keys)
    try:
        with service.redis.client() as client:
            task_id = Jobs(client, Cache(service.cache)).wait(owner="ann")
            client.config_resetstat()
            headers = {name: {"X-API-Key": secret} for name, secret in secrets.items()}
            with service.http.stream("GET", f"/events/{task_id}", headers=headers["ann"]) as stream:
                assert stream.status_code == 200
                wait_until(lambda: is_watched(client), 10, "the owner to wait")
                for path in (f"/events/{task_id}", f"/status/{task_id}?wait_s=60"):
                    refused = service.http.get(path, headers=headers["bob"])
                    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    finally:
        service.end()
