"""What one key may take up: waiting jobs and stored bytes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.gateway.callers import ALICE, BOB, CLIENT_KEYS, key
from tests.gateway.jobs import Jobs, started, wav
from tests.gateway.raw import connect, post_head, read_answer
from worker.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.support.service import Service

WAITING, STORED = 3, 5000


@pytest.fixture(scope="module")
def shared_frugal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = started(
        tmp_path_factory.mktemp("limits"),
        API_KEYS=CLIENT_KEYS,
        MAX_WAITING_PER_KEY=str(WAITING),
        MAX_STORED_BYTES_PER_KEY=str(STORED),
    )
    yield service
    service.end()


@pytest.fixture
def frugal(shared_frugal: Service) -> Service:
    """A gateway where a key's jobs may be three that wait, of 5000 bytes together."""
    with shared_frugal.redis.client() as client:
        client.flushall()
    return shared_frugal


@pytest.fixture
def theirs(frugal: Service) -> Iterator[Jobs]:
    with frugal.redis.client() as client:
        yield Jobs(client, Cache(frugal.cache))


def post(service: Service, size_bytes: int = 44, secret: str = ALICE, **headers: str) -> httpx.Response:
    files = {"file": ("a.wav", wav(size_bytes), "audio/wav")}
    return service.http.post("/transcribe", files=files, headers={**key(secret), **headers})


def folders(service: Service) -> set[str]:
    return {name for name, _ in Cache(service.cache).folders()}


def assert_refused(answer: httpx.Response, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (429, code)
    assert int(answer.headers["retry-after"]) >= 1


def test_a_key_may_have_so_many_jobs_waiting(frugal: Service, theirs: Jobs) -> None:
    accepted = [post(frugal).json()["task_id"] for _ in range(WAITING)]
    before = folders(frugal)
    assert_refused(post(frugal), "too_many_waiting")
    assert folders(frugal) == before
    assert post(frugal, secret=BOB).status_code == 202
    outcome = theirs.store.claim(accepted[0], theirs.deliver(), attempt=1, worker="w", now=time.time())
    assert outcome == "moved"
    assert post(frugal).status_code == 202
    assert_refused(post(frugal), "too_many_waiting")
    assert frugal.http.delete(f"/release/{accepted[1]}", headers=key(ALICE)).status_code == 204
    assert post(frugal).status_code == 202


def test_a_keys_jobs_may_hold_so_many_bytes(frugal: Service) -> None:
    first = post(frugal, 3000).json()["task_id"]
    before = folders(frugal)
    assert_refused(post(frugal, 2001), "too_much_stored")
    assert folders(frugal) == before
    assert post(frugal, 1000).status_code == 202
    assert post(frugal, 2001, secret=BOB).status_code == 202
    assert frugal.http.post(f"/cancel/{first}", headers=key(ALICE)).status_code == 200
    assert post(frugal, 2001).status_code == 202


def test_an_upload_that_says_its_size_is_refused_before_it_is_read(frugal: Service) -> None:
    with connect(frugal) as connection:
        connection.sendall(post_head("Content-Length: 1000000", f"X-API-Key: {ALICE}"))
        status, answer = read_answer(connection)
    assert status == 429
    assert "too_much_stored" in answer


@pytest.mark.parametrize(("size_bytes", "room"), [(44, WAITING), (2000, 2)])
def test_many_at_once_do_not_slip_through(frugal: Service, theirs: Jobs, size_bytes: int, room: int) -> None:
    """Each sees room before its upload; the script that accepts has the last word."""
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(post(frugal, size_bytes).status_code))
        for _ in range(4 * room)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [202] * room + [429] * (3 * room)
    assert theirs.store.counts().waiting == room


def test_a_repetition_counts_once(frugal: Service) -> None:
    headers = {"idempotency-key": "k"}
    ids = {post(frugal, 3000, **headers).json()["task_id"] for _ in range(2 * WAITING)}
    assert len(ids) == 1
