"""What the client reads and sends, on a stub with the whole API, and its records beside the service's."""

from __future__ import annotations

import dataclasses
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gateway import backlog, status
from gateway.client import answers
from gateway.client import models as records
from gateway.client.upload import multipart_head
from worker.delivery import document

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.stub import Stub

AUDIO = "https://example.org/talk.mp3?signature=s3cret"


def test_a_url_is_for_the_service_to_fetch(connect: Callable[..., Any], stub: Stub) -> None:
    client = connect(stub.url)
    options = {"language": "en", "max_topics": 3, "diarize": False, "topics": None, "priority": "low"}
    job = client.transcribe(AUDIO, **options, webhook_url="https://example.org/hook")
    assert client.wait(job.task_id).status == "completed"
    assert stub.requests[0][4] == {
        "url": AUDIO,
        "language": "en",
        "max_topics": 3,
        "diarize": False,
        "priority": "low",
        "webhook_url": "https://example.org/hook",
    }


def test_a_submit_whose_answer_was_lost_makes_one_job(connect: Callable[..., Any], stub: Stub) -> None:
    stub.break_next_submit = True
    connect(stub.url).transcribe(AUDIO)
    assert len(stub.jobs) == 1
    assert len(stub.requests) == 2


def test_the_callers_key_is_kept(connect: Callable[..., Any], stub: Stub) -> None:
    ids = {connect(stub.url).transcribe(AUDIO, idempotency_key="mine").task_id for _ in range(2)}
    assert len(ids) == 1
    assert [request[3]["idempotency-key"] for request in stub.requests] == ["mine", "mine"]


def test_a_long_poll_is_answered_when_the_job_ends(connect: Callable[..., Any], stub: Stub) -> None:
    stub.ends_at_once = False
    client = connect(stub.url)
    job = client.transcribe(AUDIO)
    threading.Timer(1.5, stub.move, (job.task_id, "completed")).start()
    began = time.monotonic()
    assert client.wait(job.task_id).status == "completed"
    assert 1.4 < time.monotonic() - began < 10
    asked = [request for request in stub.requests if request[1].startswith("/status")]
    assert [request[2] for request in asked] == [{"wait_s": "30"}]


def test_what_became_of_delivery_and_webhooks_is_read(connect: Callable[..., Any], stub: Stub) -> None:
    task_id = stub.add("completed")
    tried = {"at": "2026-01-02T03:04:05Z", "status": None, "error": "timeout", "ms": 10_000}
    webhook = {"event": "job.completed", "state": "pending", "tries": 1, "next_at": None, "log": [tried]}
    stub.jobs[task_id] |= {"s3_urls": ["s3://b/k.json"], "webhooks": [webhook]}
    status = connect(stub.url).status(task_id)
    assert status.s3_urls == ("s3://b/k.json",)
    assert status.webhooks[0].log == (
        records.WebhookTry(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), None, "timeout", 10_000),
    )


def test_a_watched_wait_gets_news_in_between(connect: Callable[..., Any], stub: Stub) -> None:
    stub.ends_at_once = False
    client = connect(stub.url)
    job = client.transcribe(AUDIO)
    seen: list[Any] = []
    threading.Timer(3, stub.move, (job.task_id, "failed")).start()
    client.wait(job.task_id, progress=seen.append)
    assert [found.status for found in seen] == ["pending", "failed"]


@pytest.mark.parametrize("fmt", ["md", "srt", "vtt", "txt"])
def test_every_format(connect: Callable[..., Any], stub: Stub, tmp_path: Any, fmt: str) -> None:
    client = connect(stub.url)
    task_id = stub.add("completed")
    text = client.download(task_id, fmt)
    client.download_to(task_id, tmp_path / f"out.{fmt.upper()}")
    assert (tmp_path / f"out.{fmt.upper()}").read_text() == text != ""


def test_the_jobs_are_listed_page_by_page(connect: Callable[..., Any], stub: Stub) -> None:
    ids = [stub.add(state) for state in ("completed", "failed", "completed", "completed", "completed")]
    client = connect(stub.url)
    assert [job.task_id for job in client.jobs()] == ids
    assert [job.task_id for job in client.jobs(records.State.FAILED)] == [ids[1]]
    assert [request[2].get("cursor") for request in stub.requests[:3]] == [None, "2", "4"]


def test_a_worker_that_is_still_stopping_is_told(connect: Callable[..., Any], stub: Stub) -> None:
    client = connect(stub.url)
    assert client.cancel(stub.add("processing")) is True
    assert client.release(stub.add("processing")) is False


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (records.JobStatus, status.JobStatus),
        (records.Progress, status.Progress),
        (records.JobFailure, status.JobFailure),
        (records.Backlog, backlog.Backlog),
        (records.Document, document.Document),
        (records.Segment, document.Segment),
        (records.Topic, document.Topic),
        (records.Entity, document.Entity),
        (records.ResultWarning, document.ResultWarning),
        (records.WebhookDelivery, status.WebhookDelivery),
        (records.WebhookTry, status.WebhookTry),
    ],
)
def test_the_records_are_the_services(ours: Any, theirs: Any) -> None:
    """Links apart: the client makes its paths itself."""
    fields = {field.name for field in dataclasses.fields(ours)}
    assert fields == set(theirs.model_fields) - {"links"}


def test_the_states_are_the_services() -> None:
    assert set(records.State) == set(status.Status)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        ("Thu, 01 Jan 1970 00:01:40 GMT", None),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("9" * 500, None),
        ("²", None),
    ],
)
def test_retry_after_is_a_number(text: str, seconds: float | None) -> None:
    answer = httpx.Response(503, headers=[(b"retry-after", text.encode())])
    assert answers.retry_after_s(answer) == seconds


def test_a_file_name_cannot_leave_its_quotes() -> None:
    head = multipart_head('a"\r\nX-Evil: 1\r\n\r\nb', {"priority": "low"}, "B").decode()
    assert head.splitlines() == [
        "--B",
        'Content-Disposition: form-data; name="priority"',
        "",
        "low",
        "--B",
        'Content-Disposition: form-data; name="file"; filename="a%22%0D%0AX-Evil: 1%0D%0A%0D%0Ab"',
        "Content-Type: application/octet-stream",
        "",
    ]
