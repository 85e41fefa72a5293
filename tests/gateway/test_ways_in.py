"""POST /transcribe with a recording as the body, or with the URL of one: as JSON and as a form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.jobs import MIB, Jobs, is_published, wav
from tests.gateway.raw import connect, read_answer
from tests.gateway.test_upload import CHUNK, assert_nothing_left, folders
from tests.support.waiting import wait_until
from worker.jobs import JobRecord, Priority
from worker.jobs.keys import WAITING_INDEX
from worker.jobs.options import JobOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.service import Service

URL = "https://user:hunter2@talks.example/2026/stand%20up.mp3?token=t0ken"
OPTIONS = {"language": "de", "max_topics": "3", "diarize": "false", "priority": "high"}
ASKED = JobOptions(language="de", max_topics=3, diarize=False)


def recording_head(size_bytes: int, content_type: str = "audio/wav") -> bytes:
    lines = ["POST /transcribe HTTP/1.1", "Host: x", f"Content-Type: {content_type}"]
    return "\r\n".join([*lines, f"Content-Length: {size_bytes}", "", ""]).encode()


def record_of(jobs: Jobs, answer: Any) -> JobRecord:
    assert answer.status_code == 202, answer.text
    record = jobs.store.get(answer.json()["task_id"])
    assert record is not None
    return record


@pytest.mark.parametrize("content_type", ["audio/mpeg", "video/mp4", "application/octet-stream", "AUDIO/x-y"])
def test_a_recording_may_be_the_body(served: Service, jobs: Jobs, content_type: str) -> None:
    sent = b"ID3\x04" + bytes(MIB)
    headers = {"content-type": content_type}
    record = record_of(jobs, served.http.post("/transcribe", content=sent, headers=headers))
    assert (record.source, record.size_bytes, record.options) == ("upload", len(sent), JobOptions())
    assert jobs.folder(record.id).input.read_bytes() == sent
    assert is_published(jobs.client, record.id)


def test_all_ways_in_take_the_same_options(served: Service, jobs: Jobs) -> None:
    form = {"file": ("a.wav", wav())} | {name: (None, text) for name, text in OPTIONS.items()}
    linked = {"url": (None, URL)} | {name: (None, text) for name, text in OPTIONS.items()}
    typed = {"language": "de", "max_topics": 3, "diarize": False, "priority": "high"}
    answers = [
        served.http.post("/transcribe", files=form),  # type: ignore[arg-type]
        served.http.post("/transcribe", files=linked),  # type: ignore[arg-type]
        served.http.post("/transcribe", json={"url": URL, **typed}),
        served.http.post("/transcribe", json={"url": URL, **OPTIONS}),
        served.http.post("/transcribe", content=wav(), headers={"content-type": "audio/wav"}, params=OPTIONS),
    ]
    for answer in answers:
        record = record_of(jobs, answer)
        assert (record.options, record.priority) == (ASKED, Priority.HIGH)


def test_a_url_makes_a_job_that_shows_it_to_nobody(served: Service, jobs: Jobs) -> None:
    answer = served.http.post("/transcribe", json={"url": URL})
    record = record_of(jobs, answer)
    assert (record.source, record.url, record.size_bytes) == ("url", URL, 0)
    assert record.file_name == "stand up.mp3"
    assert list(jobs.folder(record.id).path.iterdir()) == []
    status = served.http.get(f"/status/{record.id}").text
    shown = status + answer.text + repr(record) + str(record.model_dump()) + served.processes[0].log
    for secret in ("hunter2", "t0ken", "talks.example"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://talks.example/a", "must begin with http:// or https://"),
        ("file:///etc/passwd", "must begin with http:// or https://"),
        ("http://127.0.0.1/a", "not public"),
        ("http://[::ffff:10.0.0.1]/a", "not public"),
        ("http://localhost:8000/a", "names this machine"),
        ("http://2130706433/", "odd address"),
        ("http://talks.example:22/", "port 22"),
        ("http://talks.example/" + "a" * 2048, "2048"),
        ("s3://talks/a.wav", "S3 is not configured"),
        ("no url", "without spaces"),
    ],
)
def test_a_url_that_leads_nowhere_good_is_refused_at_once(served: Service, url: str, told: str) -> None:
    before = folders(served)
    for answer in (
        served.http.post("/transcribe", json={"url": url}),
        served.http.post("/transcribe", files={"url": (None, url)}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert told in answer.json()["detail"]
        assert answer.json()["errors"][0]["loc"] == ["body", "url"]
        assert_nothing_left(served, before)


def test_credentials_of_a_refused_url_are_not_repeated(served: Service) -> None:
    answer = served.http.post("/transcribe", json={"url": "http://user:hunter2@127.0.0.1/?token=t0ken"})
    assert answer.status_code == 422
    for secret in ("hunter2", "t0ken", "user"):
        assert secret not in answer.text + served.processes[0].log


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"speed": "2"}, "speed"),
        ({"url": "https://talks.example/"}, "url"),
        ({"file": "x"}, "file"),
        ({"max_topics": "none"}, "max_topics"),
        ({"priority": ["high", "low"]}, "priority"),
    ],
)
def test_a_query_that_is_refused(served: Service, query: dict[str, Any], named: str) -> None:
    before = folders(served)
    answer = served.http.post(
        "/transcribe", params=query, content=wav(), headers={"content-type": "audio/wav"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["loc"] == ["query", named]
    assert_nothing_left(served, before)


@pytest.mark.parametrize(
    ("content_type", "size_bytes"), [("audio/wav", 5 * 2**30), ("application/json", 10**5)]
)
def test_a_body_that_is_too_large_is_refused_by_its_header(
    served: Service, content_type: str, size_bytes: int
) -> None:
    with connect(served) as connection:
        connection.sendall(recording_head(size_bytes, content_type))
        status, text = read_answer(connection)
    assert (status, '"too_large"' in text) == (413, True)


@pytest.mark.parametrize("content_type", ["audio/wav", "application/json"])
def test_a_body_that_grows_too_large_is_refused_on_its_way(limited: Service, content_type: str) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(CHUNK)

    before = folders(limited)
    answer = limited.http.post("/transcribe", content=body(), headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert_nothing_left(limited, before)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Content-Encoding: gzip", 415),
        ("Content-Encoding: identity, br", 415),
        ("Transfer-Encoding: gzip, chunked", 415),
        ("Content-Encoding: Identity", 202),
        ("Transfer-Encoding: Chunked", 202),
    ],
)
def test_a_compressed_body_is_refused(served: Service, jobs: Jobs, header: str, status: int) -> None:
    is_chunked = header.startswith("Transfer")
    length = b"" if is_chunked else b"Content-Length: 44\r\n"
    head = recording_head(44).replace(b"Content-Length: 44\r\n", length + header.encode() + b"\r\n")
    with connect(served) as connection:
        connection.sendall(head + (b"2c\r\n" + wav() + b"\r\n0\r\n\r\n" if is_chunked else wav()))
        answered, text = read_answer(connection)
    assert answered == status
    assert ('"unsupported_body"' in text) == (status == 415)
    assert jobs.client.zcard(WAITING_INDEX) == (status == 202)


def test_an_empty_body_is_no_recording(served: Service) -> None:
    before = folders(served)
    for content in (b"", iter([b""])):
        answer = served.http.post("/transcribe", content=content, headers={"content-type": "audio/wav"})
        assert (answer.status_code, answer.json()["code"]) == (400, "empty_recording")
    assert_nothing_left(served, before)


def test_a_client_that_leaves_in_the_middle_of_a_recording_leaves_nothing(served: Service) -> None:
    before = folders(served)
    with connect(served) as connection:
        connection.sendall(recording_head(10**6) + wav(CHUNK))
        wait_until(lambda: len(folders(served)) > len(before), 5, "the upload to be under way")
    assert_nothing_left(served, before)


def test_the_document_shows_every_way_in(served: Service) -> None:
    operation = served.http.get("/openapi.json").json()["paths"]["/transcribe"]["post"]
    content = operation["requestBody"]["content"]
    assert set(content) == {
        "multipart/form-data",
        "application/json",
        "audio/*",
        "video/*",
        "application/octet-stream",
    }
    assert "url" in content["application/json"]["schema"]["properties"]
    names = {parameter["name"] for parameter in operation["parameters"]}
    options = {"language", "max_topics", "diarize", "topics", "engine", "priority", "s3_path"}
    assert names == {*options, "Idempotency-Key"}
    assert "415" in operation["responses"]


def test_a_url_is_in_the_records_hash_and_in_no_dump_of_it() -> None:
    record = JobRecord.model_validate({"id": "x", "state": "waiting", "created_at": 1.0, "url": URL})
    assert JobRecord.model_validate(record.to_hash()).url == URL
    assert "hunter2" not in repr(record) + json.dumps(record.model_dump()) + record.model_dump_json()
