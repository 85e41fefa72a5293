"""uvicorn's HTTP protocol, with bounds on what a client may make it keep that is no body.

uvicorn bounds none of it with httptools: a head or trailers of any size are gathered in memory, as are
requests that nobody has answered yet, and a connection that never completes a head is kept for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sized

HEAD_BYTES = 64 * 1024  # of a head; between two pieces of a body; of trailers
MOST_AHEAD = 32  # requests that a client may send before it has the first one's answer
HEAD_WITHIN_S = 30.0
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class TooManyAhead(Exception):
    """Ends the parsing; nobody else sees it."""


class OrderedFlow(FlowControl):
    """Reads nothing more while requests wait for their turn: each answer would let in thousands of others."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class Parser(httptools.HttpRequestParser):
    """httptools', for a server that speaks nothing but HTTP/1.1.

    Of a request that offers another protocol httptools reads no body, though a server may ignore the offer
    (RFC 9110, 7.8) and Java's client makes it by default. Such a head is parsed a second time without it.
    """

    def __init__(self, protocol: BoundedProtocol) -> None:
        super().__init__(protocol)
        self._protocol = protocol
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # uvicorn has nothing but bytes
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            # Another parser, as this one takes nothing more after a request that ends its connection.
            self._protocol.parser = Parser(self._protocol)
            self._protocol.parser.feed_data(self._protocol.take_back() + data[offer.args[0] :])


class BoundedProtocol(HttpToolsProtocol):
    """One connection. There is no request yet, so its refusal is no problem body."""

    _taken_back = b""
    _in_head = True  # from the end of one request to the end of the next one's head
    _head_bytes = 0  # received since there was a request or a piece of its body
    _deadline: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = Parser(self)

    def take_back(self) -> bytes:
        """The head that is to be parsed again."""
        head, self._taken_back = self._taken_back, b""
        return head

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self.flow = OrderedFlow(transport, self.pipeline)
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
        if self._head_bytes > HEAD_BYTES and self._may_answer():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        if self._may_answer():
            super().send_400_response(msg)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a trailer is no header, and nobody asks for trailers
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MOST_AHEAD:
            raise TooManyAhead  # httptools stops, and uvicorn calls send_400_response
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._taken_back = self._head_without_offer()
            return
        self._in_head = False
        self._disarm()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        # uvicorn gathers a body in a bytearray and hands out a copy of that. To nothing of type bytes CPython
        # adds bytes without a copy, and hands them out so, too: two copies less for nearly every piece.
        # Where more comes before that, each piece would copy all that waits.
        if not self.cycle.body:
            self.cycle.body = b""  # type: ignore[assignment]
        elif isinstance(self.cycle.body, bytes):
            self.cycle.body = bytearray(self.cycle.body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._taken_back:
            return
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _may_answer(self) -> bool:
        """Whether a refusal written now is taken for one of what came last.

        If not, the connection ends without it: what comes after a whole request may be no HTTP, but that
        request was taken, and has its answer first.
        """
        if self.cycle is None or self.cycle.response_complete:
            return True
        if self._in_head:
            self._disarm()
            self.cycle.keep_alive = False  # it is the last one that was whole
            self.flow.pause_reading()
            return False
        if self.pipeline or self.cycle.response_started:
            self.transport.close()
            return False
        return True

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(HEAD_WITHIN_S, self.transport.close)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
