"""uvicorn's HTTP protocol, with bounds on a request's head: its size, and the time it may take.

uvicorn bounds neither with httptools: a head of any size is gathered in memory, and a connection that
never completes one is kept for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

HEAD_BYTES = 64 * 1024
HEAD_WITHIN_S = 30.0
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """One connection. There is no request yet, so its refusal is no problem body."""

    _in_head = True  # from the end of one request to the end of the next one's head
    _head_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head and self._deadline is None:
            self._arm()
        self._head_bytes += len(data)
        super().data_received(data)
        # Judged after parsing: a chunk may end the head and carry on with the body.
        if self._in_head and self._head_bytes > HEAD_BYTES:
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._disarm()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        # uvicorn gathers a body in a bytearray and hands out a copy of that. To nothing of type bytes CPython
        # adds bytes without a copy, and hands them out so, too: two copies less for nearly every piece.
        if not self.cycle.body:
            self.cycle.body = b""  # type: ignore[assignment]
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(HEAD_WITHIN_S, self.transport.close)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
