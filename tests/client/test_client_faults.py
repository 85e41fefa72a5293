"""What the client makes of servers that break off, hang, lie or are overloaded. Every case in both forms."""

from __future__ import annotations

import io
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from gateway.client import (
    ApiError,
    BadAnswer,
    Busy,
    Retry,
    RetryPolicy,
    ServerAway,
    SourceChanged,
    WaitTimeout,
)
from ops.stack import free_port
from tests.client.rogue import (
    answers,
    breaks_off_after,
    hangs,
    refuses_and_reads_on,
    says,
    takes_and_says_nothing,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ACCEPTED = answers(202, b'{"task_id": "t", "status": "pending"}')
RECORDING = b"RIFF" + bytes(3_000_000)
QUEUE = b'{"waiting": 0, "waiting_by_priority": {}, "processing": 0, "oldest_waiting_age_s": null}'


def problem(code: str) -> bytes:
    return f'{{"code": "{code}", "detail": "so it is", "status": 503}}'.encode()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(RECORDING)
    return path


@pytest.mark.parametrize(
    "fault",
    [
        takes_and_says_nothing,
        breaks_off_after(0),
        breaks_off_after(1_000_000),
        says(b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\n{"),
        says(b"SSH-2.0-OpenSSH_9.2\r\n"),
        says(b"\x00\xff" * 100),
        answers(502, b"<html>bad gateway"),
        answers(503, problem("broker_away")),
        answers(504),
        answers(507, problem("disk_full")),
        answers(429),
    ],
)
def test_a_submit_is_repeated_whole_and_with_the_same_key(
    connect: Callable[..., Any], rogue: Callable[..., Any], recording: Path, fault: Any
) -> None:
    server = rogue(fault, ACCEPTED)
    sent: list[tuple[int, int]] = []
    job = connect(server.url).transcribe(recording, progress=lambda *news: sent.append(news))
    assert job.task_id == "t"
    first, second = server.visits
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] != ""
    assert RECORDING in second.body
    assert len(second.body) == int(second.headers["content-length"])
    assert sent[-1] == (len(RECORDING), len(RECORDING))


@pytest.mark.parametrize("status", [400, 404, 409, 413, 415, 422, 500, 501])
def test_a_refusal_is_raised_at_once(
    connect: Callable[..., Any], rogue: Callable[..., Any], recording: Path, status: int
) -> None:
    server = rogue(answers(status, problem("not_wav")))
    with pytest.raises(ApiError) as caught:
        connect(server.url).transcribe(recording)
    assert (caught.value.code, caught.value.status, caught.value.message) == ("not_wav", status, "so it is")
    assert len(server.visits) == 1


def test_a_submit_whose_first_try_is_still_being_taken_is_repeated(
    connect: Callable[..., Any], rogue: Callable[..., Any], recording: Path
) -> None:
    server = rogue(answers(409, problem("request_in_flight"), Retry_After="0"), ACCEPTED)
    assert connect(server.url).transcribe(recording).task_id == "t"


def test_retry_after_is_kept_to_and_told(connect: Callable[..., Any], rogue: Callable[..., Any]) -> None:
    server = rogue(answers(503, problem("queue_full"), Retry_After="1"), answers(200, QUEUE))
    told: list[Retry] = []
    began = time.monotonic()
    assert connect(server.url, on_retry=told.append).queue().waiting == 0
    assert time.monotonic() - began >= 1
    assert told == [Retry("so it is (queue_full, HTTP 503)", 1.0, 1)]


def test_a_retry_after_beyond_measure_is_the_callers(
    connect: Callable[..., Any], rogue: Callable[..., Any]
) -> None:
    server = rogue(answers(503, problem("queue_full"), Retry_After="3600"))
    with pytest.raises(Busy) as caught:
        connect(server.url).queue()
    assert caught.value.retry_after_s == 3600
    assert len(server.visits) == 1


def test_tries_come_to_an_end(connect: Callable[..., Any], rogue: Callable[..., Any]) -> None:
    server = rogue(answers(503))
    with pytest.raises(Busy) as caught:
        connect(server.url, retry=RetryPolicy(tries=3, first_s=0.01)).queue()
    assert caught.value.code == "http_503"
    assert len(server.visits) == 3


def test_nobody_there(connect: Callable[..., Any]) -> None:
    told: list[Retry] = []
    client = connect(f"http://127.0.0.1:{free_port()}", on_retry=told.append)
    with pytest.raises(ServerAway, match="does not answer"):
        client.queue()
    assert len(told) == 5


def test_a_silent_server_is_left_after_the_timeout(
    connect: Callable[..., Any], rogue: Callable[..., Any]
) -> None:
    server = rogue(hangs)
    client = connect(server.url, timeout_s=0.2, retry=RetryPolicy(tries=2, first_s=0.01))
    with pytest.raises(ServerAway):
        client.queue()
    assert len(server.visits) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Welcome to our router!",
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"{}",
        b'{"waiting": "many", "processing": 0}',
        b'{"waiting": 0, "processing": 0, "waiting_by_priority": {"high": "no"}}',
        b'{"waiting": 0, "processing": 0, "oldest_waiting_age_s": 1' + b"0" * 400 + b"}",
    ],
)
def test_garbage_is_a_bad_answer(connect: Callable[..., Any], rogue: Callable[..., Any], body: bytes) -> None:
    server = rogue(answers(200, body))
    with pytest.raises(BadAnswer):
        connect(server.url).queue()
    assert len(server.visits) == 1


@pytest.mark.parametrize(
    "step",
    [
        answers(301, b"", Location="/elsewhere"),
        answers(200, b"not gzip at all", Content_Encoding="gzip"),
    ],
)
def test_an_answer_that_is_none_of_the_apis(
    connect: Callable[..., Any], rogue: Callable[..., Any], step: Any
) -> None:
    with pytest.raises(BadAnswer):
        connect(rogue(step).url).queue()


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (401, b"", ApiError, "http_401"),
        (410, problem("gone"), ApiError, "gone"),
        (502, problem("bad_request"), Busy, "bad_request"),
        (418, b'{"code": 5, "detail": []}', ApiError, "http_418"),
        (599, b"[" * 100_000, ApiError, "http_599"),
    ],
)
def test_refusals_have_their_kinds(
    connect: Callable[..., Any], rogue: Callable[..., Any], status: int, body: bytes, kind: type, code: str
) -> None:
    with pytest.raises(ApiError) as caught:
        connect(rogue(answers(status, body)).url, retry=RetryPolicy(tries=1)).status("t")
    assert type(caught.value) is kind
    assert caught.value.code == code


def test_a_refused_field_is_named(connect: Callable[..., Any], rogue: Callable[..., Any]) -> None:
    body = b'{"code": "invalid_request", "detail": "no", "errors": [{"loc": ["body", "x"], "msg": "no"}]}'
    with pytest.raises(ApiError) as caught:
        connect(rogue(answers(422, body)).url).status("t")
    assert caught.value.field_errors == ({"loc": ["body", "x"], "msg": "no"},)


def test_where_a_delivered_result_is_is_told(connect: Callable[..., Any], rogue: Callable[..., Any]) -> None:
    body = b'{"code": "s3_delivered", "detail": "gone there", "locations": ["s3://b/k.json", "s3://b/k.md"]}'
    with pytest.raises(ApiError) as caught:
        connect(rogue(answers(409, body)).url).download("t")
    assert caught.value.code == "s3_delivered"
    assert caught.value.locations == ("s3://b/k.json", "s3://b/k.md")


def test_an_upload_stops_at_an_early_refusal(
    connect: Callable[..., Any], rogue: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.truncate(500_000_000)
    sent: list[int] = []
    with pytest.raises(ApiError) as refused:
        connect(rogue(refuses_and_reads_on).url).transcribe(path, progress=lambda done, _: sent.append(done))
    assert refused.value.status == 413
    assert max(sent, default=0) < 500_000_000


def test_a_release_that_was_done_unheard_has_succeeded(
    connect: Callable[..., Any], rogue: Callable[..., Any]
) -> None:
    assert connect(rogue(takes_and_says_nothing, answers(410, problem("gone"))).url).release("t") is True
    with pytest.raises(ApiError) as refused:
        connect(rogue(answers(410, problem("gone"))).url).release("t")
    assert refused.value.code == "gone"


PENDING = (
    b'{"task_id": "t", "status": "pending", "created_at": "2026-01-01T00:00:00Z", "attempt": 0,'
    b' "warnings": [], "position": 3}'
)


def test_waiting_outlasts_an_outage(connect: Callable[..., Any], rogue: Callable[..., Any]) -> None:
    done = PENDING.replace(b"pending", b"completed")
    server = rogue(*[answers(503)] * 12, answers(200, PENDING), breaks_off_after(0), answers(200, done))
    assert connect(server.url).wait("t").status == "completed"


def test_waiting_ends_in_time(connect: Callable[..., Any], rogue: Callable[..., Any]) -> None:
    server = rogue(answers(200, PENDING))
    began = time.monotonic()
    with pytest.raises(WaitTimeout, match="it is pending") as caught:
        connect(server.url).wait("t", timeout_s=1.2)
    assert caught.value.last.position == 3
    assert 1.2 <= time.monotonic() - began < 5
    assert 3 <= len(server.visits) <= 6


@pytest.mark.parametrize("step", [hangs, answers(503, b"", Retry_After="60")])
def test_waiting_ends_in_time_at_a_server_that_is_away(
    connect: Callable[..., Any], rogue: Callable[..., Any], step: Any
) -> None:
    began = time.monotonic()
    with pytest.raises((ServerAway, Busy)):
        connect(rogue(step).url).wait("t", timeout_s=1.0)
    assert time.monotonic() - began < 10


def test_a_recording_that_shrinks_while_it_is_sent_is_told(
    connect: Callable[..., Any], rogue: Callable[..., Any], recording: Path
) -> None:
    def shrink(sent_bytes: int, _total: int | None) -> None:
        if sent_bytes:
            os.truncate(recording, 600_000)

    with pytest.raises(SourceChanged):
        connect(rogue(ACCEPTED).url).transcribe(recording, progress=shrink)


def test_an_open_file_is_sent_from_where_it_stands_each_time(
    connect: Callable[..., Any], rogue: Callable[..., Any]
) -> None:
    server = rogue(answers(502), ACCEPTED)
    file = io.BytesIO(b"skipped" + RECORDING)
    file.seek(7)
    connect(server.url).transcribe(file)
    for visit in server.visits:
        assert b"skipped" not in visit.body
        assert RECORDING in visit.body
        assert b'filename="recording"' in visit.body


def test_a_pipe_is_sent_once(connect: Callable[..., Any], rogue: Callable[..., Any]) -> None:
    server = rogue(answers(502))
    reader, writer = os.pipe()
    pump = threading.Thread(target=lambda: (os.write(writer, b"RIFF"), os.close(writer)))
    pump.start()
    with os.fdopen(reader, "rb") as file, pytest.raises(Busy):
        connect(server.url).transcribe(file)
    pump.join()
    (visit,) = server.visits
    assert visit.headers["transfer-encoding"] == "chunked"


def test_the_callers_own_faults_stay_pythons(connect: Callable[..., Any], tmp_path: Path) -> None:
    client = connect("http://127.0.0.1:9")
    with pytest.raises(FileNotFoundError):
        client.transcribe(tmp_path / "none.wav")
    with pytest.raises(IsADirectoryError):
        client.transcribe(tmp_path)
    with pytest.raises(TypeError, match="binary"):
        client.transcribe(io.StringIO("text"))
    with pytest.raises(ValueError, match="fmt is one of"):
        client.download("t", "pdf")
    with pytest.raises(ValueError, match="give fmt"):
        client.download_to("t", tmp_path / "out")


def test_an_exception_of_the_callers_progress_comes_through(
    connect: Callable[..., Any], rogue: Callable[..., Any], recording: Path
) -> None:
    def progress(*_: object) -> None:
        raise KeyError("mine")

    server = rogue(ACCEPTED)
    with pytest.raises(KeyError, match="mine"):
        connect(server.url).transcribe(recording, progress=progress)
