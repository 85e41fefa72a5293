"""A server that misbehaves by plan: each connection meets the next step of it, the last one for ever."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Step = Callable[["Visit"], None]

READ_BYTES = 64 * 1024


@dataclass
class Visit:
    """One connection, with the head of its one request read."""

    connection: socket.socket
    over: threading.Event
    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)

    def read_head(self) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._read()
        head, _, rest = data.partition(b"\r\n\r\n")
        self.body += rest
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }

    def read_body(self, at_most: int | None = None) -> None:
        if "transfer-encoding" in self.headers:
            while not self.body.endswith(b"0\r\n\r\n"):
                self.body += self._read()
            return
        length = int(self.headers.get("content-length", "0"))
        wanted = length if at_most is None else min(length, at_most)
        while len(self.body) < wanted:
            self.body += self._read()

    def reset(self) -> None:
        """Close with a RST: what was not read is lost, and the client hears of it while it writes."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _read(self) -> bytes:
        data = self.connection.recv(READ_BYTES)
        if not data:
            raise ConnectionError("the client has gone")
        return data


class Rogue:
    """Listens on a free port. ``visits`` has every request whose head came in."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._listen)]
        self.visits: list[Visit] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads[0].start()

    def stop(self) -> None:
        self._over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in list(self._threads):
            thread.join(10)

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        visit = Visit(connection, self._over)
        with connection, suppress(OSError):
            visit.read_head()
            self.visits.append(visit)
            step(visit)


def answers(status: int, body: bytes = b"", **headers: str) -> Step:
    """Reads the whole body first; an underscore in a header's name stands for a hyphen."""

    def step(visit: Visit) -> None:
        visit.read_body()
        visit.connection.sendall(answer(status, body, headers))

    return step


def answer(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def says(raw: bytes) -> Step:
    """Any bytes, HTTP or not, and closes."""

    def step(visit: Visit) -> None:
        visit.read_body()
        visit.connection.sendall(raw)

    return step


def breaks_off_after(body_bytes: int) -> Step:
    def step(visit: Visit) -> None:
        visit.read_body(body_bytes)
        visit.reset()

    return step


def takes_and_says_nothing(visit: Visit) -> None:
    visit.read_body()


def hangs(visit: Visit) -> None:
    visit.read_body()
    visit.over.wait(30)


def refuses_and_reads_on(visit: Visit) -> None:
    visit.connection.sendall(answer(413, b"", {}))
    while visit.connection.recv(READ_BYTES):
        pass
