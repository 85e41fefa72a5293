"""A recording comes from a real S3 server, and from servers that misbehave."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from tests.sources.fetching import LIMITS, MIB
from tests.sources.raw_server import RawServer, Request, answers, hangs, head, says
from tests.support.s3_server import s3_server
from tests.support.waiting import wait_until
from worker.errors import SourceIncomplete, SourceRefused, SourceTooLarge, SourceUnavailable
from worker.sources.s3_source import fetch_object
from worker.sources.urls import S3Object

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from worker.sources.intake import Fetched, FetchLimits

CONTENT = os.urandom(3 * MIB)
HALF = len(CONTENT) // 2
TALK = S3Object("talks", "in/a b?c.wav")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as url:
        yield url


@pytest.fixture
def connect() -> Iterator[Callable[[str], Any]]:
    """Make clients that try once, as the one that the service makes."""
    clients: list[Any] = []

    def make(url: str) -> Any:
        config = Config(
            connect_timeout=2,
            read_timeout=2,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        )
        keys = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "s3cr3t"}
        clients.append(boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=config, **keys))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def stored(endpoint: str, connect: Callable[[str], Any]) -> Any:
    """A client of the real server, with the recording in place."""
    client = connect(endpoint)
    client.create_bucket(Bucket="talks")
    client.put_object(Bucket="talks", Key=TALK.key, Body=CONTENT, ContentType="audio/wav")
    return client


def run(
    client: Any,
    folder: Path,
    source: S3Object = TALK,
    limits: FetchLimits = LIMITS,
    check: Callable[[], None] = lambda: None,
    report: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> Fetched:
    return fetch_object(
        source, folder / "input", limits, client, check, report, require_space=lambda _extra: None
    )


def object_reply(
    content: bytes, *, etag: str = '"v1"', at_most: int | None = None, **headers: object
) -> Callable[[Request, socket.socket], None]:
    """What S3 answers, ranges and all; but break off after ``at_most`` bytes of the body."""

    def reply(request: Request, sock: socket.socket) -> None:
        first, size = request.first_byte, len(content)
        ranged = {"Content_Range": f"bytes {first}-{size - 1}/{size}"} if first else {}
        sock.sendall(head(206 if first else 200, Content_Length=size - first, ETag=etag, **ranged, **headers))
        sock.sendall(content[first:][:at_most])

    return reply


def fault(status: int, code: str) -> Callable[[Request, socket.socket], None]:
    body = f"<Error><Code>{code}</Code><Message>AKIATEST may not</Message></Error>"
    return answers(status, body.encode(), Content_Type="application/xml")


def test_an_object_comes_whole(stored: Any, tmp_path: Path) -> None:
    reports: list[tuple[int, int | None]] = []
    fetched = run(stored, tmp_path, report=lambda done, total: reports.append((done, total)))
    assert (fetched.size_bytes, fetched.content_type) == (len(CONTENT), "audio/wav")
    assert (tmp_path / "input").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["input"]
    assert reports[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    ("source", "told"),
    [(S3Object("talks", "in/none"), "no such object"), (S3Object("nowhere", "in/x"), "no such bucket")],
)
def test_what_is_not_there_is_told(stored: Any, tmp_path: Path, source: S3Object, told: str) -> None:
    with pytest.raises(SourceRefused, match=told):
        run(stored, tmp_path, source)
    assert list(tmp_path.iterdir()) == []


def test_an_object_over_the_limit_is_refused(stored: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceTooLarge):
        run(stored, tmp_path, limits=replace(LIMITS, max_bytes=len(CONTENT) - 1))
    assert list(tmp_path.iterdir()) == []


def test_the_real_server_gives_the_rest_of_what_broke_off(
    stored: Any, connect: Callable[[str], Any], tmp_path: Path
) -> None:
    etag = stored.head_object(Bucket="talks", Key=TALK.key)["ETag"]
    with (
        RawServer([object_reply(CONTENT, etag=etag, at_most=HALF)]) as broken,
        pytest.raises(SourceIncomplete),
    ):
        run(connect(broken.url("")), tmp_path, limits=replace(LIMITS, tries=1))
    assert not (tmp_path / "input").exists()
    assert run(stored, tmp_path).resumed_bytes == HALF
    assert (tmp_path / "input").read_bytes() == CONTENT


def test_another_version_begins_anew(stored: Any, connect: Callable[[str], Any], tmp_path: Path) -> None:
    with (
        RawServer([object_reply(os.urandom(len(CONTENT)), at_most=HALF)]) as broken,
        pytest.raises(SourceIncomplete),
    ):
        run(connect(broken.url("")), tmp_path, limits=replace(LIMITS, tries=1))
    run(stored, tmp_path)
    assert (tmp_path / "input").read_bytes() == CONTENT


def test_a_version_shorter_than_what_is_there_begins_anew(
    stored: Any, connect: Callable[[str], Any], tmp_path: Path
) -> None:
    with (
        RawServer([object_reply(bytes(5 * MIB), at_most=4 * MIB)]) as broken,
        pytest.raises(SourceIncomplete),
    ):
        run(connect(broken.url("")), tmp_path, limits=replace(LIMITS, tries=1))
    run(stored, tmp_path)
    assert (tmp_path / "input").read_bytes() == CONTENT


def test_a_broken_answer_goes_on_in_the_same_attempt(connect: Callable[[str], Any], tmp_path: Path) -> None:
    replies = [object_reply(CONTENT, at_most=HALF), fault(503, "SlowDown"), object_reply(CONTENT)]
    with RawServer(replies) as server:
        run(connect(server.url("")), tmp_path)
        assert [request.first_byte for request in server.requests] == [0, HALF, HALF]
    assert (tmp_path / "input").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("reply", "error", "told"),
    [
        (fault(403, "AccessDenied"), SourceRefused, "may not read"),
        (fault(403, "InvalidObjectState"), SourceRefused, "restore it"),
        (fault(400, "Weird"), SourceRefused, "status 400"),
        (fault(500, "InternalError"), SourceUnavailable, "status 500"),
        (fault(503, "SlowDown"), SourceUnavailable, "status 503"),
        (fault(400, "RequestTimeout"), SourceUnavailable, "status 400"),
        (says(b""), SourceUnavailable, "can't be reached"),
        (hangs(), SourceUnavailable, "can't be reached"),
        (object_reply(CONTENT, Content_Encoding="gzip"), SourceRefused, "compresses"),
    ],
)
def test_faults_are_told_in_our_words(
    connect: Callable[[str], Any], tmp_path: Path, reply: Any, error: type[Exception], told: str
) -> None:
    with RawServer([reply]) as server:
        with pytest.raises(error, match=told) as failure:
            run(connect(server.url("")), tmp_path, limits=replace(LIMITS, tries=2, connect_s=0.2, idle_s=0.2))
        assert server.connections == (2 if error is SourceUnavailable else 1)
    assert "AKIATEST" not in str(failure.value)
    assert not (tmp_path / "input").exists()


def test_a_body_that_falls_silent_is_given_up(connect: Callable[[str], Any], tmp_path: Path) -> None:
    with (
        RawServer([hangs(head(200, Content_Length=10, ETag='"v1"'), b"abc")]) as server,
        pytest.raises(SourceIncomplete, match="broke off"),
    ):
        run(connect(server.url("")), tmp_path, limits=replace(LIMITS, tries=1, idle_s=0.2))


class Stop(BaseException):
    pass


@pytest.mark.parametrize(
    "sent", [b"", head(200, Content_Length=10, ETag='"v1"') + b"abc"], ids=["answer", "body"]
)
def test_a_cancel_ends_any_wait(connect: Callable[[str], Any], tmp_path: Path, sent: bytes) -> None:
    looks: list[int] = []
    others = set(threading.enumerate())
    with RawServer([hangs(sent)]) as server:

        def check() -> None:
            looks.append(len(server.requests))
            if looks.count(1) > 2:  # the third look since the request came
                raise Stop

        with pytest.raises(Stop):
            run(connect(server.url("")), tmp_path, check=check)
    wait_until(lambda: set(threading.enumerate()) <= others, 10, "the reading thread to end")
