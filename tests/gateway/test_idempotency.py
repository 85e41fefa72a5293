"""Idempotency-Key: one request is one job, however often it is sent and whoever dies on the way."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING

import pytest

from gateway import idempotency
from gateway.idempotency import LEASE_S, bare, claimed, fingerprint
from gateway.job_request import JobRequest
from gateway.keys import Role, line_of
from tests.gateway.callers import key
from tests.gateway.jobs import MIB, Jobs, started, wav
from tests.gateway.raw import PART_HEAD, connect, post_head, read_answer
from tests.support.waiting import wait_until
from worker.cache import Cache
from worker.jobs import JobRecord, JobState, JobStore, Once, new_task_id
from worker.jobs.keys import WAITING_INDEX, idempotency_key
from worker.streams import GROUP

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    import httpx
    import redis

    from tests.support.service import Service

TAIL = b"\r\n--B--\r\n"
LEASE = idempotency_key("anonymous", "k") + ":lease"


def post(
    service: Service, sent: bytes = wav(), key: str = "k", name: str = "a.wav", **fields: str
) -> httpx.Response:
    files = {"file": (name, sent, "audio/wav")}
    return service.http.post("/transcribe", files=files, data=fields, headers={"idempotency-key": key})


def task_id_of(answer: httpx.Response) -> str:
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/status/{answer.json()['task_id']}"
    return str(answer.json()["task_id"])


def waiting(client: redis.Redis) -> list[str]:
    return list(client.zrange(WAITING_INDEX, 0, -1))


def folders(service: Service) -> set[str]:
    return {name for name, _ in Cache(service.cache).folders()}


def half_sent(service: Service, body: bytes, sent_bytes: int) -> socket.socket:
    connection = connect(service)
    connection.sendall(post_head(f"Content-Length: {len(body)}", "Idempotency-Key: k") + body[:sent_bytes])
    return connection


@pytest.mark.parametrize("again", ["k", '"k"'])
def test_the_same_request_is_the_same_job(served: Service, jobs: Jobs, again: str) -> None:
    before = folders(served)
    first = post(served)
    second = post(served, key=again, name="another-name.wav")
    assert task_id_of(first) == task_id_of(second)
    assert waiting(jobs.client) == [task_id_of(first)]
    assert folders(served) - before == {task_id_of(first)}


def test_another_key_or_none_is_another_job(served: Service, jobs: Jobs) -> None:
    answers = [post(served), post(served, key="l"), served.http.post("/transcribe", files={"file": wav()})]
    assert len({task_id_of(answer) for answer in answers}) == 3


@pytest.mark.parametrize(
    ("sent", "fields"), [(wav(45), {}), (wav(), {"language": "de"}), (wav(), {"priority": "low"})]
)
def test_another_request_with_the_same_key_is_refused(
    served: Service, jobs: Jobs, sent: bytes, fields: dict[str, str]
) -> None:
    task_id = task_id_of(post(served))
    before = folders(served)
    refused = post(served, sent, **fields)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert (waiting(jobs.client), folders(served)) == ([task_id], before)
    assert task_id_of(post(served)) == task_id


def test_a_key_is_the_callers_own(tmp_path: Path) -> None:
    lines = [line_of(name, f"tk_{name}", Role.CLIENT) for name in ("ann", "bob")]
    service = started(tmp_path, API_KEYS=",".join(lines))
    try:
        made = [
            service.http.post(
                "/transcribe", files={"file": wav()}, headers={**key(f"tk_{name}"), "idempotency-key": "k"}
            )
            for name in ("ann", "bob", "ann")
        ]
        ids = [task_id_of(answer) for answer in made]
        assert ids[0] == ids[2] != ids[1]
    finally:
        service.end()


@pytest.mark.parametrize("wrong", ["", "x" * 256, "k\xe4"])
def test_a_key_that_can_not_be_one(served: Service, wrong: str) -> None:
    headers = [(b"idempotency-key", wrong.encode("latin-1"))]
    answer = served.http.post("/transcribe", files={"file": wav()}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["loc"] == ["header", "Idempotency-Key"]


def test_while_the_first_is_being_taken_a_second_is_in_conflict(served: Service, jobs: Jobs) -> None:
    body = PART_HEAD + wav(MIB) + TAIL
    with half_sent(served, body, MIB // 2) as connection:
        wait_until(lambda: jobs.client.exists(LEASE), 5, "the first request to hold the key")
        refused = post(served, wav(MIB))
        assert (refused.status_code, refused.json()["code"]) == (409, "request_in_flight")
        assert int(refused.headers["retry-after"]) >= 1
        connection.sendall(body[MIB // 2 :])
        status, answer = read_answer(connection)
        assert status == 202
    assert task_id_of(post(served, wav(MIB))) in answer
    assert not jobs.client.exists(LEASE)


def test_a_client_that_goes_away_lets_the_key_go(served: Service, jobs: Jobs) -> None:
    with half_sent(served, PART_HEAD + wav(MIB) + TAIL, 1000):
        wait_until(lambda: jobs.client.exists(LEASE), 5, "the request to hold the key")
    wait_until(lambda: not jobs.client.exists(LEASE), 5, "the key to be let go")
    assert task_id_of(post(served)) in waiting(jobs.client)


def test_a_refused_request_lets_the_key_go(served: Service, jobs: Jobs) -> None:
    assert post(served, b"").status_code == 400
    assert task_id_of(post(served)) in waiting(jobs.client)


def test_a_key_goes_with_its_job(served: Service, jobs: Jobs) -> None:
    released = task_id_of(post(served))
    assert served.http.delete(f"/release/{released}").status_code == 204
    expired = task_id_of(post(served))
    assert expired != released
    assert served.http.post(f"/cancel/{expired}").status_code == 200
    assert task_id_of(post(served)) == expired
    assert jobs.store.expire(expired, time.time() + 10**9)
    assert list(jobs.client.scan_iter("once:*")) == []
    assert task_id_of(post(served)) not in {released, expired}


@pytest.fixture
def for_two(limited: Service) -> Iterator[Service]:
    """A gateway where two jobs may wait; none does, before and after."""
    with limited.redis.client() as client:
        client.flushall()
        yield limited
        client.flushall()
    for _, folder in Cache(limited.cache).folders():
        folder.remove()


def test_a_repetition_needs_no_room(for_two: Service) -> None:
    first = task_id_of(post(for_two))
    task_id_of(post(for_two, key="l"))
    full = post(for_two, key="m")
    assert (full.status_code, full.json()["code"]) == (503, "queue_full")
    assert task_id_of(post(for_two)) == first


def test_a_gateway_that_died_after_the_record_was_written(served: Service, jobs: Jobs) -> None:
    """Its client never heard of the job: the record is there, with the key, its entry is not."""
    request = JobRequest.model_validate({"language": "de"})
    task_id = new_task_id()
    record = JobRecord(id=task_id, state=JobState.WAITING, created_at=time.time(), size_bytes=44)
    content = hashlib.sha256(wav()).hexdigest()
    once = Once(idempotency_key("anonymous", "k"), fingerprint(request, content))
    assert jobs.store.accept(record, max_waiting=10, once=once)
    assert task_id_of(post(served, language="de")) == task_id
    assert waiting(jobs.client) == [task_id]


def test_a_gateway_that_is_killed_while_it_reads(fragile: Service) -> None:
    gateway = fragile.processes[0]
    with fragile.redis.client() as client:
        with half_sent(fragile, PART_HEAD + wav(MIB) + TAIL, 1000):
            wait_until(lambda: client.exists(LEASE), 5, "the request to hold the key")
            gateway.kill()
        assert 0 < client.ttl(LEASE) <= LEASE_S
        client.pexpire(LEASE, 1)
        fragile.start_gateway()
        task_id = task_id_of(post(fragile))
        assert waiting(client) == [task_id]


def test_a_gateway_that_is_killed_while_redis_holds_its_submit(fragile: Service) -> None:
    """Redis is frozen with the accept in its hands; the job that it makes later is the one that is told."""
    gateway, body = fragile.processes[0], PART_HEAD + wav(MIB) + TAIL
    with fragile.redis.client() as client:
        other = task_id_of(post(fragile, key="other"))  # Redis knows the script from now on
        with half_sent(fragile, body, 500) as connection:
            wait_until(lambda: len(folders(fragile)) == 2, 5, "the recording to be written")
            fragile.redis.freeze()
            connection.sendall(body[500:])
            fragile.wait(lambda: "accept_unanswered" in gateway.log, 10, "the accept to be sent")
            gateway.kill()
        fragile.redis.thaw()
        made = wait_until(lambda: set(waiting(client)) - {other}, 5, "Redis to make the job").pop()
        client.pexpire(LEASE, 1)
        fragile.start_gateway()
        assert task_id_of(post(fragile, wav(MIB))) == made
        assert waiting(client) == [other, made]
        assert folders(fragile) == {other, made}


def test_a_submit_whose_answer_was_lost_is_found_again(client: redis.Redis) -> None:
    """The store is asked again under the same task id, and says yes to it alone."""
    store = JobStore(client, group=GROUP, expiry_s=60)
    once = Once(idempotency_key("ann", "k"), "f")
    first, other = (
        JobRecord(id=new_task_id(), state=JobState.WAITING, owner="ann", created_at=1.0) for _ in range(2)
    )
    for _ in range(2):
        assert store.accept(first, max_waiting=1, once=once).task_id == first.id
    assert store.accept(other, max_waiting=1, once=once).task_id == first.id


async def hold(client: redis.Redis) -> None:
    """Hold a key until its lease has been renewed."""
    async with claimed(client, "ann", "k"):
        lease = idempotency_key("ann", "k") + ":lease"
        client.pexpire(lease, 500)
        deadline = time.monotonic() + 5
        while int(client.pttl(lease)) <= 500:
            assert time.monotonic() < deadline, "waited in vain for the lease to be renewed"
            await asyncio.sleep(0.01)
        client.set(lease, "another's", ex=60)
    assert client.get(lease) == "another's"


def test_a_held_key_is_renewed_and_only_the_holders_lease_is_let_go(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "RENEW_S", 0.02)
    asyncio.run(hold(client))


@pytest.mark.parametrize(
    ("given", "meant"), [("k", "k"), ('"k"', "k"), ('"a\\"b\\\\c"', 'a"b\\c'), ('"', '"'), ('""', "")]
)
def test_quotes_are_not_part_of_a_key(given: str, meant: str) -> None:
    assert bare(given) == meant
