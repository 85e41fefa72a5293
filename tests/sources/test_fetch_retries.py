"""What is tried again, when, and how often."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.sources.fetching import LIMITS, Fetching
from tests.sources.raw_server import RawServer, answers, says, serves
from worker.errors import SourceRefused, SourceUnavailable
from worker.sources.answers import retry_after_s
from worker.sources.intake import LONGEST_WAIT_S, FetchLimits, wait_s

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"RIFF" * 1000
NOW = datetime(2026, 3, 4, 10, 0, 0, tzinfo=UTC)


@pytest.fixture
def job(tmp_path: Path) -> Fetching:
    return Fetching(tmp_path)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_a_passing_fault_is_tried_again(job: Fetching, status: int) -> None:
    with RawServer([answers(status), answers(status), serves(CONTENT)]) as server:
        assert job.run(server.url()).size_bytes == len(CONTENT)
        assert server.connections == 3


def test_tries_end(job: Fetching) -> None:
    with RawServer([answers(503)]) as server:
        with pytest.raises(SourceUnavailable, match="status 503") as failure:
            job.run(server.url("/x?token=t0ken", host="user:pass@talks.example"))
        assert server.connections == 3
    assert failure.value.retryable
    assert "t0ken" not in failure.value.message
    assert "pass" not in failure.value.message


def test_a_refused_connection_is_tried_again_and_told(job: Fetching) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceUnavailable, match=r"talks\.example can't be reached"):
        job.run(f"http://talks.example:{port}/")


def test_a_server_that_comes_back_is_found(job: Fetching) -> None:
    with RawServer([says(b""), says(b"HTTP/1.1 200 OK\r\nConte"), serves(CONTENT)]) as server:
        assert job.run(server.url()).size_bytes == len(CONTENT)


@pytest.mark.parametrize(
    ("code", "error", "tries"),
    [
        (socket.EAI_AGAIN, SourceUnavailable, 3),
        (socket.EAI_FAIL, SourceUnavailable, 3),
        (socket.EAI_NONAME, SourceRefused, 1),
    ],
)
def test_names_that_do_not_resolve(job: Fetching, code: int, error: type[Exception], tries: int) -> None:
    asked: list[str] = []

    def failing(host: str, _port: int) -> list[str]:
        asked.append(host)
        raise socket.gaierror(code, "no")

    job.resolve = failing
    with pytest.raises(error, match=r"talks\.example"):
        job.run("http://talks.example/")
    assert len(asked) == tries


def test_a_name_without_addresses_is_unavailable(job: Fetching) -> None:
    job.resolve = lambda _host, _port: []
    with pytest.raises(SourceUnavailable, match="has no address"):
        job.run("http://talks.example/")


def test_the_second_address_is_tried_where_the_first_is_dead(job: Fetching) -> None:
    job.resolve = lambda _host, _port: ["127.0.0.2", "127.0.0.1"]
    with RawServer([serves(CONTENT)]) as server:
        assert job.limit(tries=1).run(server.url(host="talks.example")).size_bytes == len(CONTENT)


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_waited_for(job: Fetching, as_date: bool) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=2)
    text = format_datetime(moment, usegmt=True) if as_date else "1"
    started = time.monotonic()
    with RawServer([answers(429, Retry_After=text), serves(CONTENT)]) as server:
        job.run(server.url())
    assert time.monotonic() - started >= 1


def test_a_long_retry_after_is_left_to_the_next_attempt(job: Fetching) -> None:
    """It would keep a worker from other jobs."""
    with RawServer([answers(503, Retry_After=6), serves(CONTENT)]) as server:
        with pytest.raises(SourceUnavailable) as failure:
            job.limit(longest_pause_s=5).run(server.url())
        assert server.connections == 1
    assert failure.value.retry_after_s == 6


def test_no_wait_goes_past_the_total_time(job: Fetching) -> None:
    """The job's next attempt comes sooner than this one's next try."""
    started = time.monotonic()
    with RawServer([answers(503, Retry_After=600)]) as server:
        with pytest.raises(SourceUnavailable) as failure:
            job.limit(longest_pause_s=600, total_s=60).run(server.url())
        assert server.connections == 1
    assert time.monotonic() - started < 30
    assert failure.value.retry_after_s == 600


def test_a_failed_try_is_logged_without_the_url(job: Fetching) -> None:
    with RawServer([answers(503), serves(CONTENT)]) as server, capture_logs() as logs:
        job.run(server.url("/secret?token=t0ken", host="user:pass@talks.example"))
    assert [entry["event"] for entry in logs] == ["source_try_failed"]
    assert logs[0]["code"] == "source_unavailable"
    for secret in ("secret", "t0ken", "pass", "talks"):
        assert secret not in str(logs)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0), ("120", 120), ("", None), ("-1", None), ("1.5", None), ("soon", None), ("9" * 30, None)),
        ("Wed, 04 Mar 2026 10:02:00 GMT", 120),
        ("Wed, 04 Mar 2026 09:00:00 GMT", 0),
        ("Wednesday, 04-Mar-26 10:02:00 GMT", 120),
        ("Wed, 99 Mar 2026 10:02:00 GMT", None),
        ("Wed, 04 Mar 2026 10:02:00 -0000", 120),
    ],
)
def test_retry_after_is_read(text: str, seconds: int | None) -> None:
    assert retry_after_s(text, NOW) == seconds


def test_waits_double_up_to_a_longest() -> None:
    limits = FetchLimits(max_bytes=1)
    assert [wait_s(number, None, limits) for number in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert wait_s(50, None, limits) == LONGEST_WAIT_S
    assert wait_s(1, 100, limits) == 100
    assert wait_s(1, 0, LIMITS) == 0
