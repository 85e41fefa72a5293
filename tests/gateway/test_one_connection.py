"""What one connection may make the gateway keep, and whose answer is whose on it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psutil
import pytest

from gateway.protocol import MOST_AHEAD
from tests.gateway.jobs import MIB, wav
from tests.gateway.raw import connect, read_answer
from tests.support.waiting import wait_until
from worker.jobs.keys import WAITING_INDEX

if TYPE_CHECKING:
    import socket

    from tests.gateway.jobs import Jobs
    from tests.support.service import Service

OFFER = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"]
PING = b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n"


def raw_head(*headers: str) -> bytes:
    return "\r\n".join(
        ["POST /transcribe HTTP/1.1", "Host: test", "Content-Type: audio/wav", *headers, "", ""]
    ).encode()


def read_to_the_end(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def send_all_that_is_taken(connection: socket.socket, piece: bytes, limit_bytes: int) -> int:
    """How many bytes of ``piece``, repeated, are taken before a second passes, the limit or the end."""
    connection.settimeout(1)
    sent = 0
    try:
        while sent < limit_bytes:
            sent += connection.send(piece)
    except OSError:
        pass
    return sent


def rss_bytes(service: Service) -> int:
    return int(psutil.Process(service.processes[0].pid).memory_info().rss)


def test_junk_after_an_upload_does_not_take_its_answers_place(served: Service, jobs: Jobs) -> None:
    """A Content-Length below the body's size: a job is made of what was declared, and the client told."""
    with connect(served) as connection:
        connection.sendall(raw_head("Content-Length: 44") + wav() + b"\0 more of it \r\n\r\n")
        received = read_to_the_end(connection)
    assert received.startswith(b"HTTP/1.1 202 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert jobs.client.zcard(WAITING_INDEX) == 1


def test_junk_in_a_body_is_refused(served: Service, jobs: Jobs) -> None:
    with connect(served) as connection:
        connection.sendall(raw_head("Transfer-Encoding: chunked") + b"5\r\nRIFF1\r\nno size\r\n")
        assert read_to_the_end(connection).startswith(b"HTTP/1.1 400 ")
    assert jobs.client.zcard(WAITING_INDEX) == 0


def test_trailers_are_not_gathered(served: Service) -> None:
    before = rss_bytes(served)
    with connect(served) as connection:
        connection.sendall(raw_head("Transfer-Encoding: chunked") + b"5\r\nRIFF1\r\n0\r\n")
        sent = send_all_that_is_taken(connection, (b"X-A: " + bytes([98]) * 500 + b"\r\n") * 500, 200 * MIB)
    assert sent < 100 * MIB
    assert rss_bytes(served) - before < 16 * MIB


def test_a_trailer_is_no_header(served: Service) -> None:
    body = b"5\r\nRIFF1\r\n0\r\nContent-Type: audio/wav\r\nX-Request-ID: late\r\n\r\n"
    with connect(served) as connection:
        connection.sendall(raw_head("Transfer-Encoding: chunked") + body)
        status, text = read_answer(connection)
    assert (status, "late" in text) == (202, False)


def test_requests_sent_ahead_are_answered_in_their_order(served: Service) -> None:
    paths = [f"/status/{number}" for number in range(MOST_AHEAD)]
    asked = [f"GET {path} HTTP/1.1\r\nHost: t\r\nX-Request-ID: {path[8:]}\r\n\r\n" for path in paths]
    with connect(served) as connection:
        connection.sendall("".join(asked).encode())
        received = b""
        while received.count(b'"code":"not_found"') < MOST_AHEAD:
            received += connection.recv(65536)
        connection.sendall(PING)
        assert "alive" in read_answer(connection)[1]
    told = re.findall(rb"(?i)x-request-id: (\d+)", received)
    assert told == [path[8:].encode() for path in paths]


def test_a_flood_of_requests_sent_ahead_is_not_gathered(served: Service) -> None:
    before = rss_bytes(served)
    with connect(served) as connection:
        sent = send_all_that_is_taken(connection, PING * 5000, 20 * MIB)
        connection.settimeout(10)
        try:
            answers = read_to_the_end(connection).count(b'"alive"')
        except ConnectionResetError:
            answers = 0
    assert sent < 20 * MIB
    assert answers <= MOST_AHEAD + 1
    assert rss_bytes(served) - before < 16 * MIB
    wait_until(lambda: served.http.get("/health/live").status_code == 200, 5, "the gateway to be well")


@pytest.mark.parametrize("size_bytes", [44, 300_000])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_offer_of_http2_takes_no_body_away(
    served: Service, jobs: Jobs, size_bytes: int, *, is_chunked: bool
) -> None:
    """As Java's client and curl --http2 make it with every request on a connection without TLS."""
    data = wav(size_bytes)
    length = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {size_bytes}"
    body = f"{size_bytes:x}\r\n".encode() + data + b"\r\n0\r\n\r\n" if is_chunked else data
    with connect(served) as connection:
        for _ in range(2):
            connection.sendall(raw_head(*OFFER, length) + body)
            assert read_answer(connection)[0] == 202
        ping = PING.replace(b"Host: test", "\r\n".join(["Host: test", *OFFER]).encode())
        connection.sendall(ping + PING.replace(b"Host", b"Connection: close\r\nHost"))
        assert read_to_the_end(connection).count(b'"alive"') == 2
    with connect(served) as connection:
        connection.sendall(raw_head("Connection: close, Upgrade", "Upgrade: h2c", length) + body)
        assert read_to_the_end(connection).startswith(b"HTTP/1.1 202 ")
    tasks = jobs.client.zrange(WAITING_INDEX, 0, -1)
    assert [jobs.folder(task).input.read_bytes() == data for task in tasks] == [True] * 3
