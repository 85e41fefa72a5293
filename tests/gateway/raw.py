"""HTTP by hand: for requests that no client library would send."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.service import Service

BOUNDARY = "B"
PART_HEAD = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=10)


def post_head(*headers: str) -> bytes:
    """The head of an upload, up to its body."""
    lines = [
        "POST /transcribe HTTP/1.1",
        "Host: test",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_answer(connection: socket.socket) -> tuple[int, str]:
    """Status and all the text of the answer, read until its Content-Length is there."""
    received = b""
    while not complete(received):
        chunk = connection.recv(65536)
        assert chunk, f"the connection ended within the answer: {received!r}"
        received += chunk
    return int(received.split(b" ", 2)[1]), received.decode()


def complete(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(found) and len(body) >= int(lengths[0].split(b":")[1])
