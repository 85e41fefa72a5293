"""Around every request: an id, security headers, one line in the log, a last net for exceptions.

Pure ASGI: it sees the 404 of a wrong path and the crash of a handler as well, and copies no body.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from structlog.contextvars import bound_contextvars

from gateway.problems import error_of, respond
from worker.cache.folder import is_task_id
from worker.logs import get_logger
from worker.tracing import NO_SPAN

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gateway.traffic import Tally
    from worker.tracing import Span, Tracing

log = get_logger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LINGER_S = 2.0
READING = frozenset({"GET", "HEAD", "OPTIONS"})
DOCS_PATHS = ("/docs", "/static-offline-docs")

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
API_POLICY = "default-src 'none'; frame-ancestors 'none'"
# Swagger UI starts from an inline script and draws with inline styles; all of it comes from here.
DOCS_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; frame-ancestors 'none'"
)


class Envelope:
    """The ASGI middleware itself; one Exchange a request."""

    def __init__(self, app: ASGIApp, tally: Tally, tracing: Tracing) -> None:
        self._app = app
        self._tally = tally
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self._tally, self._span(scope))
        scope.setdefault("state", {}).update(
            request_id=exchange.request_id, traceparent=exchange.span.traceparent
        )
        with bound_contextvars(request_id=exchange.request_id):
            await exchange.run(self._app)

    def _span(self, scope: Scope) -> Span:
        """Of requests that change something; of polls and downloads where the client traces them itself."""
        parent = Headers(scope=scope).get("traceparent", "")
        if scope["method"] in READING and not parent:
            return NO_SPAN
        return self._tracing.begin("request", "server", parent)


class Exchange:
    """One request and its response, as they pass."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, tally: Tally, span: Span) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._tally = tally
        self.span = span
        self._headers = Headers(scope=scope)
        self.request_id = request_id_of(self._headers)
        self._began = time.monotonic()
        self._body_pending = has_body(self._headers)
        self._body_asked_for = "expect" not in self._headers  # else the client waits for "100 Continue"
        self._status = 0
        self._received_bytes = self._sent_bytes = 0
        self._duration_ms = 0.0

    async def run(self, app: ASGIApp) -> None:
        self._tally.begin()
        try:
            await app(self._scope, self.receive, self.send)
        except Exception as exc:
            log.exception("request_crashed", route=route_of(self._scope))
            self._scope["state"]["error_code"] = error_of(exc).code
            if self._status:
                raise  # the answer is on its way: all that is left is to break the connection
            await respond(exc)(self._scope, self.receive, self.send)
        finally:
            self._count()
            self._end_span()
            self._log()

    async def receive(self) -> Message:
        self._body_asked_for = True
        message = await self._receive()
        size_bytes = len(message.get("body", b""))
        self._received_bytes += size_bytes
        self._tally.receive(size_bytes)
        if not message.get("more_body", False):
            self._body_pending = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._add_headers(MutableHeaders(scope=message))
            await self._send(message)
            return
        self._sent_bytes += len(message.get("body", b""))
        if message.get("more_body", False):
            await self._send(message)
        else:
            await self._send_last(message)

    async def _send_last(self, message: Message) -> None:
        self._duration_ms = round((time.monotonic() - self._began) * 1000, 1)
        if self._body_pending and self._body_asked_for:
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {**message, "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        """Read on for a moment after an early answer.

        Closing a socket with unread data in it resets the connection, and a client that is still
        sending would lose the very answer that tells it to stop (nginx: lingering_close).
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while self._body_pending:
                    await self.receive()

    def _add_headers(self, headers: MutableHeaders) -> None:
        headers["X-Request-ID"] = self.request_id
        headers.update(SECURITY_HEADERS)
        is_docs = self._scope["path"].startswith(DOCS_PATHS)
        headers["Content-Security-Policy"] = DOCS_POLICY if is_docs else API_POLICY
        if not is_docs:
            headers.setdefault("Cache-Control", "no-store")
        if self._body_pending:
            headers["Connection"] = "close"

    def _count(self) -> None:
        seconds = time.monotonic() - self._began
        code = error_code_of(self._scope)
        self._tally.end(self._scope["method"], route_of(self._scope), self._status, code, seconds)

    def _end_span(self) -> None:
        route, code = route_of(self._scope), error_code_of(self._scope)
        self.span.end(
            f"{self._scope['method']} {route}",
            error=code if self._status >= HTTPStatus.INTERNAL_SERVER_ERROR else None,
            status=self._status,
            code=code,
            request_id=self.request_id,
            task_id=task_id_of(self._scope),
        )

    def _log(self) -> None:
        log.info(
            "request_finished",
            method=self._scope["method"],
            route=route_of(self._scope),
            status=self._status,
            code=error_code_of(self._scope),
            duration_ms=self._duration_ms,
            task_id=task_id_of(self._scope),
            owner=self._scope.get("state", {}).get("caller"),
            received_bytes=self._received_bytes,
            sent_bytes=self._sent_bytes,
        )


def request_id_of(headers: Headers) -> str:
    """The client's own id where it is harmless in a header and in a log; else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def route_of(scope: Scope) -> str:
    """The route's template; a path that no route took is the client's text, and is not logged."""
    return getattr(scope.get("route"), "path", "") or "unmatched"


def error_code_of(scope: Scope) -> str | None:
    code: str | None = scope.get("state", {}).get("error_code")
    return code


def task_id_of(scope: Scope) -> str | None:
    """The job that the request is about: named in its path, or made by it."""
    made = scope.get("state", {}).get("task_id")
    named = scope.get("path_params", {}).get("task_id", "")
    return made or (named if is_task_id(named) else None)
