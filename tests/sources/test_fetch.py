"""A recording comes over http or https whole, within limits, from the address that was checked."""

from __future__ import annotations

import base64
import gzip
import hashlib
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.delivery.certificates import server_and_trust
from tests.sources.fetching import LIMITS, MIB, Fetching
from tests.sources.raw_server import RawServer, Request, answers, drips, hangs, head, says, serves
from worker.errors import (
    DiskFull,
    InputMissing,
    Interrupted,
    SourceIncomplete,
    SourceRefused,
    SourceTooLarge,
    SourceUnavailable,
    UrlForbidden,
)
from worker.sources.fetch import Network, fetch
from worker.sources.intake import Fetched

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    Reply = Callable[[Request, socket.socket], None]

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def job(tmp_path: Path) -> Fetching:
    return Fetching(tmp_path)


def test_a_recording_comes_whole(job: Fetching) -> None:
    with RawServer([serves(CONTENT, Content_Type="audio/wav")]) as server:
        fetched = job.run(server.url("/a/talk.wav?x=1#there"))
    assert fetched == Fetched(len(CONTENT), "audio/wav", 0)
    assert job.target.read_bytes() == CONTENT
    assert job.names == {"input"}
    assert job.reports[0] == (0, len(CONTENT))
    assert job.reports[-1] == (len(CONTENT), len(CONTENT))
    assert job.space_asked[0] == len(CONTENT)
    request = server.requests[0]
    assert request.line == "GET /a/talk.wav?x=1 HTTP/1.1"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["accept-encoding"] == "identity"
    assert "authorization" not in request.headers


def test_a_chunked_recording_comes_whole(job: Fetching) -> None:
    body = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with RawServer([says(head(200, Transfer_Encoding="chunked"), body)]) as server:
        assert job.run(server.url()).size_bytes == 5
    assert job.target.read_bytes() == b"abcde"
    assert job.reports[-1] == (5, 5)


def test_an_empty_body_is_taken_for_what_it_is(job: Fetching) -> None:
    with RawServer([answers(200)]) as server:
        assert job.run(server.url()).size_bytes == 0
    assert job.target.read_bytes() == b""


def test_tls_asks_for_the_name_at_the_address_that_was_checked(job: Fetching, tmp_path: Path) -> None:
    tls, trust = server_and_trust("talks.example", tmp_path)
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    job.folder = tmp_path / "job"
    job.folder.mkdir()
    job.ssl_context, job.resolve = trust, resolve
    with RawServer([serves(CONTENT)], tls=tls) as server:
        job.run(server.url(host="Talks.Example"))
        assert asked == [("talks.example", server.port)], "resolved more than once"
        assert server.names == ["talks.example"]
        assert server.requests[0].headers["host"] == f"talks.example:{server.port}"
    assert job.target.read_bytes() == CONTENT


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_that_is_not_the_hosts_is_refused_for_good(
    job: Fetching, tmp_path: Path, trusted: bool
) -> None:
    tls, trust = server_and_trust("talks.example", tmp_path)
    job.ssl_context = trust if trusted else None
    with RawServer([serves(CONTENT)], tls=tls) as server:
        with pytest.raises(SourceRefused, match="certificate"):
            job.run(server.url(host="other.example" if trusted else "talks.example"))
        assert server.connections == 1
        assert server.requests == []


def test_the_environments_proxies_are_not_used(job: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer([answers(500)]) as proxy, RawServer([serves(CONTENT)]) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        job.run(server.url(host="talks.example"))
        assert proxy.connections == 0


def test_credentials_go_to_the_first_host_only(job: Fetching) -> None:
    with RawServer([serves(CONTENT)]) as other:
        replies = [answers(302, Location="/two"), answers(302, Location=other.url(host="u:p@other.example"))]
        with RawServer(replies) as server:
            job.run(server.url(host="user:p%40ss@talks.example"))
    expected = "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert [request.headers.get("authorization") for request in server.requests] == [expected, expected]
    assert "authorization" not in other.requests[0].headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(job: Fetching, status: int) -> None:
    with RawServer([answers(status, b"moved", Location="../b?c=%20"), serves(CONTENT)]) as server:
        job.run(server.url("/x/a"))
    assert [request.line.split()[1] for request in server.requests] == ["/x/a", "/b?c=%20"]


def test_a_redirect_loop_ends(job: Fetching) -> None:
    with RawServer([answers(302, Location="/again")]) as server:
        with pytest.raises(SourceRefused, match="more than 5 times"):
            job.run(server.url())
        assert server.connections == 6


def test_a_redirect_from_https_to_http_is_refused(job: Fetching, tmp_path: Path) -> None:
    tls, job.ssl_context = server_and_trust("talks.example", tmp_path)
    with RawServer([serves(CONTENT)]) as plain:
        with (
            RawServer([answers(302, Location=plain.url())], tls=tls) as server,
            pytest.raises(UrlForbidden, match="https to http"),
        ):
            job.run(server.url(host="talks.example"))
        assert plain.connections == 0


@pytest.mark.parametrize(
    ("status", "told"),
    [(400, "400"), (401, "credentials"), (403, "expired"), (404, "check the URL"), (410, "URL")],
)
def test_a_refusal_is_final_and_told_in_our_words(job: Fetching, status: int, told: str) -> None:
    with RawServer([answers(status, b"Secret page of theirs")]) as server:
        with pytest.raises(SourceRefused, match=told) as refusal:
            job.run(server.url("/secret-path?token=t0ken", host="user:pass@talks.example"))
        assert server.connections == 1
    assert f"status {status}" in refusal.value.message
    for secret in ("secret", "t0ken", "user", "pass", "Secret"):
        assert secret not in refusal.value.message
    assert job.names == set()


@pytest.mark.parametrize("status", [204, 205, 206, 304, 300])
def test_an_answer_without_the_recording_is_refused(job: Fetching, status: int) -> None:
    with RawServer([says(head(status, Content_Length=0))]) as server, pytest.raises(SourceRefused):
        job.run(server.url())


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip", "x"])
def test_a_compressed_body_is_refused_before_it_is_read(job: Fetching, encoding: str) -> None:
    bomb = gzip.compress(bytes(64 * MIB))
    with (
        RawServer([answers(200, bomb, Content_Encoding=encoding)]) as server,
        pytest.raises(SourceRefused, match="compresses"),
    ):
        job.run(server.url())
    assert job.names == set()


@pytest.mark.parametrize("encoding", ["", "identity", "Identity", "aws-chunked"])
def test_a_body_that_says_it_is_plain_is_taken(job: Fetching, encoding: str) -> None:
    with RawServer([answers(200, CONTENT, Content_Encoding=encoding)]) as server:
        assert job.run(server.url()).size_bytes == len(CONTENT)


def test_a_body_whose_end_nobody_could_tell_is_refused(job: Fetching) -> None:
    with (
        RawServer([says(head(200), CONTENT)]) as server,
        pytest.raises(SourceRefused, match="does not say where the recording ends"),
    ):
        job.run(server.url())
    assert job.names == set()


def test_an_announced_size_over_the_limit_is_refused_unread(job: Fetching) -> None:
    with RawServer([hangs(head(200, Content_Length=8 * MIB + 1))]) as server:
        with pytest.raises(SourceTooLarge, match="larger than the 8388608 bytes"):
            job.run(server.url())
        assert server.connections == 1
    assert job.names == set()


def test_a_body_without_an_end_is_cut_off_at_the_limit(job: Fetching) -> None:
    def endless(_request: Request, sock: socket.socket) -> None:
        sock.sendall(head(200, Transfer_Encoding="chunked", ETag='"x"'))
        while True:
            sock.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    with RawServer([endless]) as server, pytest.raises(SourceTooLarge):
        job.limit(max_bytes=MIB).run(server.url())
    assert job.names == set()


def test_exactly_the_limit_is_taken(job: Fetching) -> None:
    with RawServer([serves(CONTENT)]) as server:
        assert job.limit(max_bytes=len(CONTENT)).run(server.url()).size_bytes == len(CONTENT)


def test_huge_headers_are_not_swallowed(job: Fetching) -> None:
    def endless(_request: Request, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            sock.sendall(b"X-Filler: " + b"a" * 1000 + b"\r\n")

    with RawServer([endless]) as server, pytest.raises(SourceUnavailable, match="as a web server does"):
        job.run(server.url())


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 2000 x\r\n\r\n",
        head(200, Content_Length="-1"),
        b"HTTP/1.1 200 OK\r\n",
    ],
)
def test_what_is_no_web_server_is_unavailable(job: Fetching, sent: bytes) -> None:
    with RawServer([says(sent)]) as server:
        with pytest.raises(SourceUnavailable):
            job.run(server.url())
        assert server.connections == LIMITS.tries


def test_the_disk_is_looked_at_before_and_while_reading(job: Fetching) -> None:
    body = b"1900000\r\n" + bytes(25 * MIB) + b"\r\n0\r\n\r\n"
    with RawServer([says(head(200, Transfer_Encoding="chunked"), body)]) as server:
        job.limit(max_bytes=100 * MIB).run(server.url())
    assert job.space_asked == [0, 0, 0, 0]


def test_a_full_disk_interrupts(tmp_path: Path) -> None:
    def full(_extra_bytes: int) -> None:
        raise DiskFull("no room")

    job = Fetching(tmp_path)
    with RawServer([serves(CONTENT)]) as server:
        with pytest.raises(Interrupted, match="disk is full") as failure:
            fetch(server.url(), job.target, LIMITS, job.policy, job.check, lambda *_: None,
                  require_space=full, network=Network(job.resolve))  # fmt: skip
        assert server.connections == 1
    assert failure.value.code == "interrupted"


def test_a_folder_that_is_gone_is_told(job: Fetching) -> None:
    job.folder = job.folder / "released"
    with RawServer([serves(CONTENT)]) as server, pytest.raises(InputMissing):
        job.run(server.url())


class Stop(BaseException):
    pass


@pytest.mark.parametrize(
    "reply",
    [
        hangs(),
        hangs(b"HTTP/1.1 200 OK\r\n"),
        hangs(head(200, Content_Length=10), b"abc"),
        drips(b"HTTP/1.1 200 OK\r\nX: ", b"a", threading.Event()),
        drips(head(200, Content_Length=10**6), b"a", threading.Event()),
        answers(503, Retry_After=1),
    ],
    ids=["answer", "headers", "body", "dripping headers", "dripping body", "back-off"],
)
def test_a_cancel_ends_any_wait(job: Fetching, reply: Reply) -> None:
    looks: list[int] = []
    with RawServer([reply]) as server:

        def check() -> None:
            looks.append(len(server.requests))
            if looks.count(1) > 2:  # the third look since the request came
                raise Stop

        job.check = check
        with pytest.raises(Stop):
            job.run(server.url())
        assert server.connections == 1
    assert not job.target.exists()


def test_a_cancel_ends_the_wait_for_a_name_and_for_a_connection(job: Fetching, unanswered: str) -> None:
    def stop() -> None:
        if next(calls) == 2:
            raise Stop

    never = threading.Event()

    def hanging_resolver(_host: str, _port: int) -> list[str]:
        never.wait(30)
        return []

    calls = iter(range(100))
    job.check, job.resolve = stop, hanging_resolver
    with pytest.raises(Stop):
        job.run("http://talks.example/")
    never.set()
    calls = iter(range(100))
    with pytest.raises(Stop):
        job.run(unanswered)


def test_a_connection_that_is_not_answered_is_given_up(job: Fetching, unanswered: str) -> None:
    with pytest.raises(SourceUnavailable, match="can't be reached"):
        job.limit(connect_s=0.2, tries=1).run(unanswered)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_an_answer_that_does_not_come_is_given_up(job: Fetching, sent: bytes) -> None:
    with RawServer([hangs(sent)]) as server:
        with pytest.raises(SourceUnavailable, match="did not answer in time"):
            job.limit(idle_s=0.2, tries=2).run(server.url())
        assert server.connections == 2


def test_a_handshake_that_does_not_come_is_given_up(job: Fetching) -> None:
    with RawServer([hangs()]) as server, pytest.raises(SourceUnavailable, match="did not answer in time"):
        job.limit(connect_s=0.2, tries=1).run(server.url().replace("http:", "https:"))


def test_a_body_that_falls_silent_is_given_up(job: Fetching) -> None:
    with (
        RawServer([hangs(head(200, Content_Length=10), b"abc")]) as server,
        pytest.raises(SourceIncomplete, match="after 3 of 10 bytes"),
    ):
        job.limit(idle_s=0.2, tries=1).run(server.url())


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 OK\r\nX: ", head(200, Content_Length=10**6)])
def test_a_drip_ends_with_the_total_time(job: Fetching, first: bytes) -> None:
    with RawServer([drips(first, b"a", threading.Event())]) as server:
        with pytest.raises(SourceUnavailable, match="did not arrive within 1 s"):
            job.limit(total_s=1).run(server.url())
        assert server.connections == 1


def test_check_is_called_while_bytes_flow(job: Fetching) -> None:
    calls: list[int] = []
    job.check = lambda: calls.append(len(calls))

    def slow(_request: Request, sock: socket.socket) -> None:
        sock.sendall(head(200, Content_Length=20))
        for _ in range(20):
            sock.sendall(b"x")
            threading.Event().wait(0.1)

    with RawServer([slow]) as server:
        job.run(server.url())
    assert len(calls) >= 6, "two seconds, at least a call each third of one"
    assert len(job.reports) >= 3


def test_memory_stays_flat(job: Fetching) -> None:
    size, block = 300 * MIB, bytes(MIB)

    def big(_request: Request, sock: socket.socket) -> None:
        sock.sendall(head(200, Content_Length=size))
        for _ in range(size // MIB):
            sock.sendall(block)

    process = psutil.Process()
    with RawServer([serves(CONTENT)]) as server:
        job.run(server.url())
    peak = before = process.memory_info().rss

    def measure() -> None:
        nonlocal peak
        peak = max(peak, process.memory_info().rss)

    job.check = measure
    with RawServer([big]) as server:
        assert job.limit(max_bytes=size).run(server.url()).size_bytes == size
    assert peak - before < 16 * MIB
    with job.target.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(bytes(size)).digest()
    job.target.unlink()
