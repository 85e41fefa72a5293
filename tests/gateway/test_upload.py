"""POST /transcribe, over real connections."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.gateway.jobs import MIB, Jobs, is_published, started, wav
from tests.gateway.raw import PART_HEAD, connect, post_head, read_answer
from tests.support.waiting import wait_until
from worker.cache import Cache
from worker.jobs.keys import WAITING_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from tests.support.service import Service

CHUNK = 64 * 1024


def post(service: Service, data: bytes, name: str = "a.wav") -> httpx.Response:
    return service.http.post("/transcribe", files={"file": (name, data, "audio/wav")})


def folders(service: Service) -> list[str]:
    return [name for name, _ in Cache(service.cache).folders()]


def waiting(service: Service) -> list[str]:
    with service.redis.client() as client:
        return list(client.zrange(WAITING_INDEX, 0, -1))


def assert_nothing_left(service: Service, before: list[str]) -> None:
    wait_until(lambda: folders(service) == before, 5, "the folder to be removed")
    assert not waiting(service)


def test_an_upload_becomes_a_job(served: Service, jobs: Jobs) -> None:
    sent = wav(3 * MIB + 17)
    answer = post(served, sent, "会議 録音.wav")
    assert answer.status_code == 202
    task_id = answer.json()["task_id"]
    assert answer.json() == {
        "task_id": task_id,
        "status": "pending",
        "links": {
            "status": f"/status/{task_id}",
            "download": f"/download/{task_id}",
            "release": f"/release/{task_id}",
        },
    }
    assert answer.headers["location"] == f"/status/{task_id}"
    record = jobs.store.get(task_id)
    assert record is not None
    assert (record.file_name, record.size_bytes) == ("会議 録音.wav", len(sent))
    assert jobs.folder(task_id).input.read_bytes() == sent


def test_it_is_published_under_its_id(served: Service, jobs: Jobs) -> None:
    assert is_published(jobs.client, post(served, wav()).json()["task_id"])


def test_publishing_subscribes_to_nothing(served: Service, jobs: Jobs) -> None:
    """Celery's own habit is a subscription to each task's result: for ever, in a process that never waits."""
    for _ in range(3):
        assert post(served, wav()).status_code == 202
    assert jobs.client.pubsub_channels("celery-task-meta-*") == []


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        ({"file": ("a.wav", b"")}, 400, "empty_recording"),
        ({"recording": ("a.wav", wav())}, 422, "invalid_request"),
        ([("file", ("a.wav", wav())), ("file", ("b.wav", wav()))], 422, "invalid_request"),
        ([("file", ("a.wav", wav())), ("tongue", (None, b"en"))], 422, "invalid_request"),
    ],
)
def test_what_is_refused(served: Service, files: object, status: int, code: str) -> None:
    before = folders(served)
    answer = served.http.post("/transcribe", files=files)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert_nothing_left(served, before)


UNKNOWN_SPEED = (
    "unknown field 'speed'; known: "
    "'file', 'language', 'max_topics', 'diarize', 'topics', 'engine', 'priority', "
    "'s3_path', 'webhook_url', 'url'"
)


def test_a_refused_field_is_named(served: Service) -> None:
    answer = served.http.post("/transcribe", files={"speed": (None, b"2")})
    assert answer.json() == {
        "type": "urn:transcription:error:invalid_request",
        "title": "Invalid request",
        "status": 422,
        "detail": UNKNOWN_SPEED,
        "code": "invalid_request",
        "errors": [
            {
                "loc": ["body", "speed"],
                "msg": UNKNOWN_SPEED,
                "type": "extra_forbidden",
            }
        ],
    }


@pytest.mark.parametrize(
    ("content_type", "content", "status", "code"),
    [
        ("text/plain", wav(), 415, "unsupported_body"),
        ("audio/wav", b"", 400, "empty_recording"),
        ("application/json", b"rubbish", 400, "bad_request"),
        ("multipart/form-data", b"", 400, "bad_request"),
        ("multipart/form-data; boundary=B", b"rubbish", 400, "bad_request"),
        ("multipart/form-data; boundary=B", PART_HEAD + wav(), 400, "bad_request"),
    ],
)
def test_malformed_bodies(served: Service, content_type: str, content: bytes, status: int, code: str) -> None:
    before = folders(served)
    answer = served.http.post("/transcribe", content=content, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert_nothing_left(served, before)


def test_a_content_length_with_thousands_of_zeros(served: Service) -> None:
    sent = PART_HEAD + wav() + b"\r\n--B--\r\n"
    with connect(served) as connection:
        connection.sendall(post_head(f"Content-Length: {len(sent):05000}") + sent)
        assert read_answer(connection)[0] == 202


def test_too_large_by_its_content_length_is_refused_before_the_body(served: Service) -> None:
    with connect(served) as connection:
        connection.sendall(post_head(f"Content-Length: {5 * 1024**3}"))
        status, text = read_answer(connection)
    assert (status, '"too_large"' in text) == (413, True)


def test_a_client_that_waits_for_100_continue_is_refused_without_one(served: Service) -> None:
    with connect(served) as connection:
        connection.sendall(post_head(f"Content-Length: {5 * 1024**3}", "Expect: 100-continue"))
        status, text = read_answer(connection)
        assert (status, "100 Continue" in text) == (413, False)
        assert connection.recv(1) == b""  # closed at once: nobody has to read a body on


def test_a_client_that_was_told_to_continue_reads_the_answer_that_stops_it(limited: Service) -> None:
    """As curl sends what it reads from a pipe."""
    piece = b"10000\r\n" + bytes(CHUNK) + b"\r\n"
    with connect(limited) as connection:
        connection.sendall(post_head("Transfer-Encoding: chunked", "Expect: 100-continue"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        part = PART_HEAD + wav(CHUNK)
        connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        for _ in range(1000):
            connection.sendall(piece)
        connection.sendall(b"0\r\n\r\n")
        assert read_answer(connection)[0] == 413
    assert_nothing_left(limited, [])


def test_too_large_while_it_arrives(limited: Service) -> None:
    """A chunked body declares no length. The client, still sending, reads the answer all the same."""

    def body() -> Iterator[bytes]:
        yield PART_HEAD + wav(CHUNK)
        for _ in range(200):
            yield bytes(CHUNK)

    headers = {"content-type": "multipart/form-data; boundary=B"}
    answer = limited.http.post("/transcribe", content=body(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "transfer-encoding" in answer.request.headers
    assert_nothing_left(limited, [])


def test_a_recording_of_the_very_limit_is_taken(limited: Service) -> None:
    with limited.redis.client() as client:
        client.flushall()
    assert post(limited, wav(MIB)).status_code == 202
    assert post(limited, wav(MIB + 1)).status_code == 413
    with limited.redis.client() as client:
        client.flushall()


def test_a_full_queue_refuses_before_the_body(limited: Service) -> None:
    with limited.redis.client() as client:
        client.flushall()
        full = Jobs(client, Cache(limited.cache))
        ids = [full.wait(), full.wait()]
        with connect(limited) as connection:
            connection.sendall(post_head(f"Content-Length: {MIB}"))
            status, text = read_answer(connection)
        assert (status, '"queue_full"' in text, "retry-after: 60" in text) == (503, True, True)
        client.flushall()
        for task_id in ids:
            full.folder(task_id).remove()


def test_a_short_body_is_read_before_it_is_refused_and_not_written(limited: Service) -> None:
    with limited.redis.client() as client:
        client.flushall()
        before = folders(limited)
        full = Jobs(client, Cache(limited.cache))
        ids = [full.wait(), full.wait()]
        answer = post(limited, wav(100))
        assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
        client.flushall()
        for task_id in ids:
            full.folder(task_id).remove()
        assert folders(limited) == before


def test_a_queue_that_fills_up_meanwhile_refuses_after_the_body(limited: Service) -> None:
    with limited.redis.client() as client:
        client.flushall()
        before = folders(limited)
        full = Jobs(client, Cache(limited.cache))
        sent = PART_HEAD + wav(MIB) + b"\r\n--B--\r\n"
        with connect(limited) as connection:
            connection.sendall(post_head(f"Content-Length: {len(sent)}") + sent[:-1])
            wait_until(lambda: len(folders(limited)) > len(before), 5, "the upload to be under way")
            ids = [full.wait(), full.wait()]
            connection.sendall(sent[-1:])
            status, text = read_answer(connection)
        assert (status, '"queue_full"' in text) == (503, True)
        client.flushall()
        for task_id in ids:
            full.folder(task_id).remove()
        assert folders(limited) == before


def test_a_full_disk_refuses_before_the_body(tmp_path: Path) -> None:
    service = started(tmp_path, MIN_FREE_BYTES=str(2**62))
    try:
        with connect(service) as connection:
            connection.sendall(post_head(f"Content-Length: {MIB}"))
            status, text = read_answer(connection)
        assert (status, '"disk_full"' in text, "retry-after: 300" in text) == (507, True, True)
        ready = service.http.get("/health/ready").json()
        assert [check["ok"] for check in ready["checks"] if check["name"] == "cache"] == [False]
    finally:
        service.end()


def test_a_client_that_leaves_midway_leaves_nothing(served: Service) -> None:
    before = folders(served)
    with connect(served) as connection:
        connection.sendall(post_head("Content-Length: 1000000") + PART_HEAD + wav(CHUNK))
        wait_until(lambda: len(folders(served)) > len(before), 5, "the upload to be under way")
    assert_nothing_left(served, before)
    log = served.processes[0]
    wait_until(lambda: '"status": 499' in log.log, 5, "the line that says so")


def test_slow_uploads_do_not_stop_others(served: Service) -> None:
    """More of them than there are threads."""
    before = len(folders(served))  # other tests' jobs
    connections = [connect(served) for _ in range(60)]
    try:
        for connection in connections:
            connection.sendall(post_head("Content-Length: 1000000") + PART_HEAD + wav(100))
        wait_until(lambda: len(folders(served)) >= before + 60, 10, "all uploads to be under way")
        assert served.http.get("/health/live", timeout=2).status_code == 200
        assert served.http.get("/queue", timeout=2).status_code == 200
        assert post(served, wav()).status_code == 202
    finally:
        for connection in connections:
            connection.close()
    wait_until(lambda: len(folders(served)) < before + 60, 10, "the unfinished uploads to be removed")


def test_many_slow_uploads_do_not_each_hold_a_block(fragile: Service) -> None:
    """Each sends nearly a block and stops: most of that goes to the disk, where one alone might hold it."""
    connections = [connect(fragile) for _ in range(200)]

    def written_bytes() -> list[int]:
        inputs = [Cache(fragile.cache).folder(name).input for name in folders(fragile)]
        return [path.stat().st_size for path in inputs if path.exists()]

    try:
        for connection in connections:
            connection.sendall(post_head("Content-Length: 2000000") + PART_HEAD + wav(100))
        wait_until(lambda: len(written_bytes()) == 200, 20, "all uploads to be under way")
        for connection in connections:
            connection.sendall(bytes(900_000))
        wait_until(lambda: min(written_bytes()) > 500_000, 20, "the better part to be written")
    finally:
        for connection in connections:
            connection.close()
    wait_until(lambda: not written_bytes(), 20, "the unfinished uploads to be removed")


def test_a_large_upload_takes_no_memory(served: Service, jobs: Jobs) -> None:
    size = 300 * MIB
    gateway = psutil.Process(served.processes[0].pid)
    assert post(served, wav(MIB)).status_code == 202  # what is loaded at the first upload is no growth
    before = gateway.memory_info().rss
    peak = before

    def body() -> Iterator[bytes]:
        nonlocal peak
        yield PART_HEAD + wav(MIB)
        for _ in range(size // MIB - 1):
            peak = max(peak, gateway.memory_info().rss)
            yield bytes(MIB)
        yield b"\r\n--B--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=B"}
    answer = served.http.post("/transcribe", content=body(), headers=headers, timeout=60)
    assert answer.status_code == 202
    folder = jobs.folder(answer.json()["task_id"])
    assert folder.input.stat().st_size == size
    folder.remove()
    assert peak - before <= 32 * MIB


def test_the_age_of_a_slow_upload_stays_low(served: Service) -> None:
    """A trickle below the block size is written too: else the sweeper would take its folder for remains."""
    before = folders(served)
    with connect(served) as connection:
        connection.sendall(post_head("Content-Length: 1000000") + PART_HEAD + wav(100))
        (name,) = wait_until(lambda: set(folders(served)) - set(before), 5, "the upload to be under way")
        folder = Cache(served.cache).folder(name)

        def trickled() -> bool:
            connection.sendall(b"x")
            time.sleep(0.1)
            return folder.input.stat().st_size > 100

        wait_until(trickled, 20, "the trickle to be written")


@pytest.mark.parametrize("priority", ["high", "normal", "low", None])
def test_a_priority_is_kept(served: Service, priority: str | None) -> None:
    fields = {"file": ("a.wav", wav(100))} | ({"priority": (None, priority)} if priority else {})
    answer = served.http.post("/transcribe", files=fields)  # type: ignore[arg-type]
    assert answer.status_code == 202
    with served.redis.client() as client:
        assert (client.hget(f"job:{answer.json()['task_id']}", "priority") or "normal") == (
            priority or "normal"
        )


@pytest.mark.parametrize("priority", ["urgent", "x" * 1000])
def test_another_priority_is_refused(served: Service, priority: str) -> None:
    before = folders(served)
    answer = served.http.post(
        "/transcribe", files={"file": ("a.wav", wav(100)), "priority": (None, priority)}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["loc"] == ["body", "priority"]
    assert_nothing_left(served, before)
