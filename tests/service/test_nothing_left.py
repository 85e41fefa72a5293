"""After a release or the expiry of a job, its whole service holds no trace of it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.gateway.callers import ALICE, CLIENT_KEYS, key
from tests.support.service import ROOT, SAMPLE
from worker.jobs.keys import AUDIO, ENDED_INDEX, STORED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

    from tests.support.service import Service

FILE_NAME = "a-private-name.wav"
IDEMPOTENCY_KEY = "a-private-key"
PLACES = re.compile(r"(<[^>]+>)")
KOMBUS = "_kombu.binding"
ENDLESS = '{"misbehave": "hang"}'


def everything(client: redis.Redis) -> Iterator[tuple[str, str]]:
    """Every key of the server, with all that is in it."""
    readers: dict[str, Callable[[str], Any]] = {
        "string": client.get,
        "hash": client.hgetall,
        "zset": lambda name: client.zrange(name, 0, -1, withscores=True),
        "set": client.smembers,
        "list": lambda name: client.lrange(name, 0, -1),
        "stream": client.xrange,
        "none": lambda _: None,  # gone since it was listed
    }
    for name in client.scan_iter():
        yield name, f"{name} {readers[client.type(name)](name)}"


class Traces:
    """Looks for what must not be found once the job is gone."""

    def __init__(self, service: Service, client: redis.Redis, task_id: str, *texts: str) -> None:
        self._service, self._client = service, client
        self._texts = (task_id, FILE_NAME, IDEMPOTENCY_KEY, *texts)

    def found(self) -> list[str]:
        return [*self._in_redis(), *self._in_the_cache()]

    def _in_redis(self) -> list[str]:
        return [name for name, content in everything(self._client) if self._is_in(content)]

    def _in_the_cache(self) -> list[str]:
        return [
            str(path)
            for path in self._service.cache.rglob("*")
            if self._is_in(str(path)) or self._holds(path)
        ]

    def _holds(self, path: Path) -> bool:
        try:
            return path.is_file() and self._is_in(path.read_bytes().decode(errors="replace"))
        except FileNotFoundError:  # gone since it was listed
            return False

    def _is_in(self, content: str) -> bool:
        return any(text in content for text in self._texts)

    def wait_for_none(self) -> None:
        self._service.wait(lambda: not self.found(), 20, f"no trace to be left, but: {self.found()}")


@pytest.fixture
def guarded(service: Service) -> Service:
    """A service with keys: alice's jobs have an owner of their own."""
    service.settings["API_KEYS"] = CLIENT_KEYS
    service.http.headers.update(key(ALICE))
    return service


@pytest.fixture
def client(guarded: Service) -> Iterator[redis.Redis]:
    with guarded.redis.client() as connected:
        yield connected


def submit(service: Service, **fields: str) -> str:
    with SAMPLE.open("rb") as file:
        answer = service.http.post(
            "/transcribe",
            files={"file": (FILE_NAME, file, "audio/wav")},
            data=fields,
            headers={"idempotency-key": IDEMPOTENCY_KEY},
        )
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    return str(answer.json()["task_id"])


def transcribed(service: Service, client: redis.Redis) -> tuple[str, Traces]:
    """A completed job of a real engine, and a look for it and for what was said in it."""
    service.start_all()
    task_id = submit(service)
    service.wait_for(task_id, "completed")
    said = service.download(task_id).json()["segments"]
    traces = Traces(service, client, task_id, *(segment["transcript"] for segment in said))
    assert len(said) > 2
    places = traces.found()
    assert any(place.startswith("once:") for place in places)
    assert any(place.startswith("jobs:of:alice:completed") for place in places)
    assert any("result." in place for place in places)
    (result,) = (path for path in service.cache.rglob("result.*"))
    assert client.hget(STORED, "alice") == str(result.stat().st_size)
    assert 20_000 < int(str(client.hget(AUDIO, "alice"))) < 30_000
    return task_id, traces


def test_nothing_is_left_of_a_released_job(guarded: Service, client: redis.Redis) -> None:
    task_id, traces = transcribed(guarded, client)
    assert guarded.http.delete(f"/release/{task_id}").status_code == httpx.codes.NO_CONTENT
    assert set(traces.found()) <= {"worker-reports"}  # until the worker's next one: its job is no more
    traces.wait_for_none()
    assert client.hget(STORED, "alice") == "0"


def test_nothing_is_left_of_an_expired_job(guarded: Service, client: redis.Redis) -> None:
    task_id, traces = transcribed(guarded, client)
    client.zadd(ENDED_INDEX, {task_id: time.time() - 1})
    traces.wait_for_none()
    assert guarded.http.get(f"/status/{task_id}").status_code == httpx.codes.GONE


def test_nothing_is_left_of_a_waiting_job(guarded: Service, client: redis.Redis) -> None:
    """No worker is there to take its entry off the queue: the sweeper does."""
    guarded.start_gateway()
    guarded.start_sweeper()
    task_id = submit(guarded)
    traces = Traces(guarded, client, task_id)
    assert any(place.startswith("q:") for place in traces.found())
    assert guarded.http.delete(f"/release/{task_id}").status_code == httpx.codes.NO_CONTENT
    assert [place for place in traces.found() if not place.startswith("q:")] == []
    traces.wait_for_none()


def test_nothing_is_left_of_a_running_job(guarded: Service, client: redis.Redis) -> None:
    guarded.settings |= {"ENGINE": "simulated", "SIMULATED_SCRIPT": ENDLESS}
    guarded.start_all()
    task_id = submit(guarded)
    guarded.wait_for(task_id, "processing")
    traces = Traces(guarded, client, task_id)
    assert guarded.http.delete(f"/release/{task_id}").status_code == httpx.codes.NO_CONTENT
    traces.wait_for_none()


@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_nothing_is_left_of_a_job_without_a_result(guarded: Service, client: redis.Redis, end: str) -> None:
    behaviour = '{"misbehave": "raise"}' if end == "fail" else ENDLESS
    guarded.settings |= {"ENGINE": "simulated", "SIMULATED_SCRIPT": behaviour}
    guarded.start_all()
    task_id = submit(guarded)
    if end == "cancel":
        guarded.wait_for(task_id, "processing")
        assert guarded.http.post(f"/cancel/{task_id}").status_code == httpx.codes.OK
    guarded.wait_for(task_id, "failed")
    traces = Traces(guarded, client, task_id)
    client.zadd(ENDED_INDEX, {task_id: time.time() - 1})
    traces.wait_for_none()


def test_nothing_is_left_of_a_job_that_killed_its_workers(
    guarded: Service, client: redis.Redis, tmp_path: Path
) -> None:
    """Its dead letter, its checkpoints and what its attempts left go, too."""
    guarded.settings |= {
        "ENGINE": "simulated",
        "SIMULATED_SCRIPT": '{"misbehave": "kill"}',
        "MAX_ATTEMPTS": "1",
    }
    guarded.start_all()
    task_id = submit(guarded)
    guarded.wait_for(task_id, "failed")
    traces = Traces(guarded, client, task_id)
    assert any(place.endswith(":dead") for place in traces.found())
    assert guarded.http.delete(f"/release/{task_id}").status_code == httpx.codes.NO_CONTENT
    traces.wait_for_none()


def test_the_keys_that_stay_are_those_of_the_table(guarded: Service, client: redis.Redis) -> None:
    """What has no end of its own is named in docs/architecture.md, or is the queue's (docs/streams.md)."""
    task_id, _ = transcribed(guarded, client)
    assert lasting(client)
    assert [name for name in lasting(client) if not is_in_the_table(name)] == []
    assert guarded.http.delete(f"/release/{task_id}").status_code == httpx.codes.NO_CONTENT
    assert [name for name in lasting(client) if name.startswith(("job:", "jobs:of:", "once:"))] == []


def lasting(client: redis.Redis) -> list[str]:
    return [name for name in client.scan_iter() if client.ttl(name) == -1]


def is_in_the_table(name: str) -> bool:
    pages = [(ROOT / f"docs/{page}.md").read_text() for page in ("architecture", "streams")]
    rows = [line.split("|") for page in pages for line in page.splitlines() if line.startswith("| `")]
    patterns = [pattern_of(row[1].strip().strip("`")) for row in rows if len(row) > 5]
    return name.startswith(KOMBUS) or any(pattern.fullmatch(name) for pattern in patterns)


def pattern_of(written: str) -> re.Pattern[str]:
    """A key as the tables write it: <what stands for something> is anything."""
    return re.compile(
        "".join(r".+" if part.startswith("<") else re.escape(part) for part in PLACES.split(written))
    )
