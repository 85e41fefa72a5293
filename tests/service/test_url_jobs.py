"""Recordings that a worker fetches: whole, after a death, or not at all, with a clear error."""

from __future__ import annotations

import io
import json
import threading
import wave
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest

from tests.sources.raw_server import RawServer, Request, answers, drips, hangs, head, serves
from tests.support.s3_server import s3_server
from tests.support.service import SAMPLE
from worker.jobs.keys import LOAD
from worker.sources.resuming import KEEP_EVERY_BYTES

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.support.service import Service

MIB = 1024**2
FAST = {"ENGINE": "simulated", "SIMULATED_SCRIPT": json.dumps({"speed": 10_000})}
OPEN = {**FAST, "URL_ALLOW_PRIVATE": "true"}
ETAG = '"v1"'


def silence(size_bytes: int) -> bytes:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(size_bytes))
    return sound.getvalue()


def submit(service: Service, url: str, **options: Any) -> str:
    answer = service.http.post("/transcribe", json={"url": url, **options})
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    return str(answer.json()["task_id"])


def error_of(service: Service, task_id: str, timeout_s: float = 60) -> tuple[str, str, str]:
    error = service.wait_for(task_id, "failed", timeout_s)["error"]
    return error["code"], error["step"], error["message"]


def everything_said(service: Service) -> str:
    return "".join(path.read_text(errors="replace") for path in service.folder.rglob("*.log"))


def test_a_url_becomes_a_transcript_and_its_secrets_are_nowhere(service: Service) -> None:
    service.settings = {**OPEN, "LOG_LEVEL": "debug"}
    service.start_all()
    with RawServer([answers(302, Location="/moved?sig=s1gned"), serves(SAMPLE.read_bytes())]) as server:
        url = server.url("/secret-path/standup.wav?token=t0ken", host="user:hunter2@127.0.0.1")
        task_id = submit(service, url, max_topics=3)
        status = service.wait_for(task_id, "completed")
    assert status["attempt"] == 1
    answer = service.download(task_id)
    assert answer.json()["duration_s"] == pytest.approx(25, abs=5)
    assert 'filename="standup.json"' in answer.headers["content-disposition"]
    with service.redis.client() as client:
        record = client.hgetall(f"job:{task_id}")
        assert not client.hexists(LOAD, "done_bytes"), "the download's speed was taken for the worker's"
    assert record["source"] == "url"
    assert int(record["size_bytes"]) == SAMPLE.stat().st_size
    service.wait(
        lambda: len([name for name in service.files() if task_id in name]) == 1, 10, "the rest to be removed"
    )
    told = everything_said(service) + json.dumps(status) + answer.text + json.dumps(record)
    for secret in ("hunter2", "t0ken", "s1gned", "secret-path"):
        assert secret not in told


def test_a_form_with_a_url_is_as_good(service: Service) -> None:
    service.settings = OPEN
    service.start_all()
    with RawServer([serves(SAMPLE.read_bytes())]) as server:
        answer = service.http.post(
            "/transcribe", files={"url": (None, server.url()), "language": (None, "en")}
        )
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        service.wait_for(answer.json()["task_id"], "completed")


def test_a_killed_workers_download_is_gone_on_with_by_another(service: Service) -> None:
    content = silence(KEEP_EVERY_BYTES + 2 * MIB)
    stops_short = hangs(head(200, Content_Length=len(content), ETag=ETAG), content[:-1])
    service.settings = OPEN
    first = service.start_all()
    with RawServer([stops_short, serves(content)]) as server:
        task_id = submit(service, server.url())
        note = service.cache / "jobs" / task_id / "input.part.json"
        service.wait(
            lambda: note.exists() and json.loads(note.read_bytes())["kept_bytes"] >= KEEP_EVERY_BYTES,
            30,
            "most of the recording to be there",
        )
        progress = service.wait(
            lambda: (found := service.status(task_id)["progress"]) and found["fraction"] > 0 and found,
            10,
            "progress of the download",
        )
        assert (progress["step"], progress["number"]) == ("fetch", 1)
        first.kill()
        service.start_worker("two")
        status = service.wait_for(task_id, "completed", 60)
        assert status["attempt"] == 2
        assert server.requests[-1].first_byte >= KEEP_EVERY_BYTES
    assert service.download(task_id).json()["duration_s"] == pytest.approx((len(content) - 44) / 32_000)


def test_servers_that_give_no_recording_end_in_clear_errors(service: Service) -> None:
    service.settings = {
        **OPEN,
        "MAX_ATTEMPTS": "1",
        "MAX_UPLOAD_BYTES": str(MIB),
        "URL_TRIES": "1",
        "URL_IDLE_S": "1",
        "URL_TOTAL_S": "3",
    }
    service.start_all()
    never = threading.Event()
    page = b"<html>please log in</html>" * 100
    cases: list[tuple[Any, str, str]] = [
        (answers(404), "source_refused", "status 404"),
        (answers(403), "source_refused", "status 403"),
        (answers(500), "source_unavailable", "status 500"),
        (answers(302, Location="/again"), "source_refused", "redirects more than 5 times"),
        (answers(302, Location="http://169.254.169.254/latest/meta-data/"), "url_forbidden", "not public"),
        (hangs(head(200, Content_Length=MIB + 1)), "source_too_large", "1048576 bytes"),
        (hangs(b"HTTP/1.1 200 OK\r\n"), "source_unavailable", "did not answer in time"),
        (drips(head(200, Content_Length=1000), b"x", never), "source_unavailable", "within 3 s"),
        (hangs(head(200, Content_Length=1000), b"RIFF"), "source_incomplete", "after 4 of 1000 bytes"),
        (answers(200, b""), "not_audio", "empty"),
        (answers(200, page, Content_Type="text/html"), "not_audio", "no audio or video"),
    ]
    servers = [RawServer([reply]) for reply, _, _ in cases]
    try:
        tasks = [submit(service, server.__enter__().url()) for server in servers]
        found = [error_of(service, task_id) for task_id in tasks]
    finally:
        never.set()
        for server in servers:
            server.__exit__()
    for (_, code, told), (found_code, step, message) in zip(cases, found, strict=True):
        assert (found_code, told in message) == (code, True), message
        assert step == ("convert" if code == "not_audio" else "fetch")
    service.wait(
        lambda: not [name for name in service.files() if ".part" in name], 10, "the parts to be removed"
    )


def test_what_a_key_may_store_bounds_what_is_fetched_for_it(service: Service) -> None:
    content = silence(MIB)
    service.settings = {**OPEN, "MAX_ATTEMPTS": "1", "MAX_STORED_BYTES_PER_KEY": str(MIB + MIB // 2)}
    service.start_all()
    held = threading.Event()
    with RawServer([serves(content), drips(head(200, Content_Length=len(content)), b"x", held)]) as server:
        with service.redis.client() as client:
            submit(service, server.url())
            service.wait(lambda: client.hgetall("jobs:stored"), 20, "the first to be in the books")
            client.hset("jobs:stored", "anonymous", MIB)  # as if it were kept for long
        code, step, message = error_of(service, submit(service, server.url()))
        held.set()
    assert (code, step) == ("source_too_large", "fetch")
    assert f"larger than the {MIB // 2} bytes" in message


def test_a_fetched_recording_is_in_the_books_after_an_outage(service: Service) -> None:
    content = silence(MIB)
    rest = threading.Event()

    def reply(_request: Request, sock: socket.socket) -> None:
        sock.sendall(head(200, Content_Length=len(content)) + content[:-1])
        rest.wait(30)
        sock.sendall(content[-1:])

    service.settings = OPEN | {"SIMULATED_SCRIPT": json.dumps({"speed": 4})}
    worker = service.start_all()
    with RawServer([reply]) as server, service.redis.client() as client:
        task_id = submit(service, server.url())
        folder = service.cache / "jobs" / task_id
        service.wait((folder / "input.part").exists, 20, "the download to be under way")
        service.redis.stop()
        rest.set()
        service.wait((folder / "input").exists, 10, "the recording to be there")
        told = len(worker.log)
        service.wait(lambda: "redis" in worker.log[told:], 20, "the worker to miss the server")
        service.redis.start()
        service.wait(
            lambda: client.hgetall("jobs:stored") == {"anonymous": str(len(content))}, 30, "the books to tell"
        )
        assert client.hget(f"job:{task_id}", "size_bytes") == str(len(content))


def test_a_busy_server_is_tried_again(service: Service) -> None:
    service.settings = OPEN
    service.start_all()
    with RawServer([answers(503, Retry_After=1), answers(429), serves(SAMPLE.read_bytes())]) as server:
        status = service.wait_for(submit(service, server.url()), "completed")
        assert status["attempt"] == 1
        assert server.connections == 3


def test_a_server_that_is_away_for_an_attempt_is_tried_again_in_the_next(service: Service) -> None:
    service.settings = {**OPEN, "URL_TRIES": "1"}
    service.start_all()
    with RawServer([answers(503), serves(SAMPLE.read_bytes())]) as server:
        assert service.wait_for(submit(service, server.url()), "completed", 60)["attempt"] == 2


def test_a_cancelled_download_ends_and_leaves_nothing(service: Service) -> None:
    service.settings = OPEN
    service.start_all()
    left = threading.Event()

    def reply(_request: Request, sock: socket.socket) -> None:
        try:
            hangs(head(200, Content_Length=MIB, ETag=ETAG), bytes(1000))(_request, sock)
        finally:
            left.set()

    with RawServer([reply]) as server:
        task_id = submit(service, server.url())
        folder = service.cache / "jobs" / task_id
        service.wait((folder / "input.part").exists, 20, "the download to be under way")
        assert service.status(task_id)["progress"]["step"] == "fetch"
        answer = service.http.post(f"/cancel/{task_id}")
        assert (answer.status_code, answer.json()["stopped"]) == (200, True)
        assert left.wait(10), "the connection was kept"
        assert error_of(service, task_id)[0] == "cancelled"
        assert not folder.exists()
        assert service.wait_for(service.submit(), "completed")


def test_what_is_allowed_by_address_opens_nothing_beside_it(service: Service) -> None:
    service.settings = {**FAST, "URL_ALLOW_HOSTS": "127.0.0.1/32", "MAX_ATTEMPTS": "1"}
    service.start_all()
    with RawServer([answers(302, Location="http://127.0.0.2:1/x")]) as server:
        code, _, message = error_of(service, submit(service, server.url()))
    assert code == "url_forbidden"
    assert "127.0.0.2" not in message
    refused = service.http.post("/transcribe", json={"url": "http://127.0.0.2/x"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


def test_an_object_in_the_bucket_becomes_a_transcript(service: Service, tmp_path: Path) -> None:
    keys = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "s3cr3t"}
    with s3_server(tmp_path / "s3.log") as endpoint:
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
        client.create_bucket(Bucket="talks")
        client.put_object(Bucket="talks", Key="in/anonymous/a talk.wav", Body=SAMPLE.read_bytes())
        client.close()
        service.settings = {
            **FAST,
            "S3_STORAGE_BUCKET": "talks",
            "S3_PREFIX": "in",
            "S3_ENDPOINT_URL": endpoint,
            **{name.upper(): value for name, value in keys.items()},
        }
        service.start_all()
        there = submit(service, "s3://talks/in/anonymous/a talk.wav")
        missing = submit(service, "s3://talks/in/anonymous/none.wav")
        service.wait_for(there, "completed")
        assert error_of(service, missing)[0] == "source_refused"
        assert 'filename="a talk.json"' in service.download(there).headers["content-disposition"]
    for url in ("s3://talks/in/another/a.wav", "s3://other/in/anonymous/a.wav"):
        refused = service.http.post("/transcribe", json={"url": url})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert "s3cr3t" not in everything_said(service)
