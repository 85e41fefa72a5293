"""A web server of bare sockets on loopback, which can misbehave in any way that a socket allows."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

ETAG = '"v1"'


@dataclass(frozen=True)
class Request:
    line: str
    headers: dict[str, str]

    @property
    def first_byte(self) -> int:
        """Where the asked range begins; 0 without one."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])


@dataclass
class RawServer:
    """The nth connection gets the nth reply; the last one's stays for all that follow."""

    replies: list[Callable[[Request, socket.socket], None]]
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    names: list[str | None] = field(default_factory=list)  # asked for by TLS
    port: int = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        if self.tls is not None:
            self.tls.sni_callback = lambda _sock, name, _context: self.names.append(name)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # shutdown wakes a thread in accept or recv; close alone does not.
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def url(self, path: str = "/talk.wav", host: str = "127.0.0.1") -> str:
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}{path}"

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            reply = self.replies[min(self.connections, len(self.replies) - 1)]
            self.connections += 1
            self._open.append(sock)
            self._start(self._serve, sock, reply)

    def _serve(self, sock: socket.socket, reply: Callable[[Request, socket.socket], None]) -> None:
        # The client going away is what many tests are about.
        with sock, contextlib.suppress(OSError):
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            request = _read_request(sock)
            if request is not None:
                self.requests.append(request)
                reply(request, sock)
            sock.close()


def _read_request(sock: socket.socket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        received = sock.recv(65536)
        if not received:
            return None
        data += received
    line, *rest = data.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
    return Request(line, {name.lower(): value for name, _, value in (text.partition(": ") for text in rest)})


def head(status: int, **headers: object) -> bytes:
    """Status line and headers; underscores in names stand for hyphens."""
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def says(*parts: bytes) -> Callable[[Request, socket.socket], None]:
    """Send these bytes, whatever was asked, and close."""

    def reply(_request: Request, sock: socket.socket) -> None:
        for part in parts:
            sock.sendall(part)

    return reply


def answers(status: int, body: bytes = b"", **headers: object) -> Callable[[Request, socket.socket], None]:
    return says(head(status, Content_Length=len(body), **headers), body)


def serves(
    content: bytes, *, etag: str = ETAG, at_most: int | None = None, reset: bool = False, **headers: object
) -> Callable[[Request, socket.socket], None]:
    """Behave well, with ranges; but break off after ``at_most`` bytes of the body."""

    def reply(request: Request, sock: socket.socket) -> None:
        same = not request.first_byte or request.headers.get("if-range") == etag
        first = request.first_byte if same else 0
        ranged = {"Content_Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
        validator = {"ETag": etag} if etag else {}
        length = len(content) - first
        sock.sendall(head(206 if first else 200, Content_Length=length, **validator, **ranged, **headers))
        sock.sendall(content[first:][:at_most])
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return reply


def hangs(*parts: bytes) -> Callable[[Request, socket.socket], None]:
    """Send these bytes, then nothing, until the client goes."""

    def reply(request: Request, sock: socket.socket) -> None:
        says(*parts)(request, sock)
        while sock.recv(65536):
            pass

    return reply


def drips(first: bytes, again: bytes, pause: threading.Event) -> Callable[[Request, socket.socket], None]:
    """Send ``first``, then ``again`` ten times a second for ever; ``pause`` is never set."""

    def reply(request: Request, sock: socket.socket) -> None:
        says(first)(request, sock)
        while not pause.wait(0.1):
            sock.sendall(again)

    return reply
