"""HTTP servers on loopback that answer to order: also late, wrongly, or not at all."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    Answer = Callable[[BaseHTTPRequestHandler], None]

LATEST_S = 60.0


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass
class Receiver:
    """Gives ``answers`` in turn, the last one again and again, and keeps what was asked."""

    answers: list[Answer]
    tls: ssl.SSLContext | None = None
    received: list[Received] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.released = threading.Event()  # ends the answers that hang
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        if self.tls:
            self._server.socket = self.tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, request: Received) -> Answer:
        with self._lock:
            self.received.append(request)
            return self.answers[min(len(self.received), len(self.answers)) - 1]


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Connection", "close")  # or a client might use it again while it closes
        handler.end_headers()
        handler.wfile.write(body)

    return send


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Says nothing until the receiver is released."""
    handler.server.receiver.released.wait(LATEST_S)  # type: ignore[attr-defined]  # set by _handler_of
    answer(200)(handler)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A header that goes on and on, a byte at a time: no single read is slow."""
    released = handler.server.receiver.released  # type: ignore[attr-defined]  # set by _handler_of
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not released.wait(0.05):
        handler.wfile.write(b"x")


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Closes with RST."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def garbage(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"220 mail.example ESMTP\r\n")


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # connections that wait to be taken; more are refused

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust the certificate hangs up: no news."""


def _handler_of(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # so that "Expect: 100-continue" is answered

        def _handle(self) -> None:
            self.close_connection = True
            self.server.receiver = receiver  # type: ignore[attr-defined]
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            send = receiver.take(Received(self.command, self.path, headers, body))
            with suppress(OSError):  # the client may have gone
                send(self)

        do_GET = do_POST = do_PUT = _handle  # noqa: N815  http.server's names

        def log_message(self, *_: Any) -> None: ...

        def finish(self) -> None:
            with suppress(OSError, ValueError):  # closed by reset()
                super().finish()

    return Handler
