"""Receives a recording or its URL: reads the body on the event loop, parses and writes it in threads.

Memory stays flat: uvicorn stops reading the socket while a block is written.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from gateway.bodies import (
    LONGEST_JSON_BYTES,
    BodyKind,
    JsonBody,
    RecordingBody,
    json_too_large,
    kind_of,
    require_plain,
)
from gateway.errors import InvalidRequest, UploadStalled
from gateway.form import RecordingForm, boundary_of, clean_name
from gateway.intake import Intake
from gateway.job_request import QUERY_FIELDS, repeated_field, unknown_field
from gateway.outputs import NOWHERE, Outputs
from gateway.recording import SHORT_BYTES, RecordingFile, block_bytes, empty, too_large
from worker.errors import BadRequest
from worker.jobs import new_task_id
from worker.jobs.record import ANONYMOUS
from worker.sources.addresses import PUBLIC_ONLY
from worker.sources.rules import UrlRules, name_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator

    from fastapi import Request

    from gateway.bodies import Body
    from gateway.intake import Upload
    from worker.cache import Cache

_Result = TypeVar("_Result")
FORM_BYTES = 64 * 1024  # what boundaries and part headers may add to the recording
IDLE_S = 60.0
# Blocks are written at least so often, whatever their size: the sweeper takes a folder that nobody writes
# to for a crash's remains.
WRITE_EVERY_S = 2.0
WRITERS, FINISHERS = 32, 16
NO_RULES = UrlRules(PUBLIC_ONLY)


class Receiver:
    """Receives recordings into one cache.

    Args:
        limit_bytes: Largest recording taken.
        engines: Those that a job may ask for.
        idle_s: A client that sends nothing for so long has gone.
        urls: Which URLs a job may give.
        outputs: Where results and news of jobs may go.
    """

    def __init__(
        self,
        cache: Cache,
        limit_bytes: int,
        engines: Collection[str] = (),
        idle_s: float = IDLE_S,
        urls: UrlRules = NO_RULES,
        outputs: Outputs = NOWHERE,
    ) -> None:
        self._cache = cache
        self._urls = urls
        self._engines = engines
        self._outputs = outputs
        self._limit_bytes = limit_bytes
        self._idle_s = idle_s
        self._uploads = 0  # being read
        # Threads of their own: requests that wait for a frozen Redis must not stop uploads, nor these them.
        self._writers = ThreadPoolExecutor(WRITERS, "upload")
        self._finishers = ThreadPoolExecutor(FINISHERS, "accept")

    def close(self) -> None:
        """Wait for what the threads have begun, requests that a shutdown has cancelled included; blocking.

        uvicorn ends the process by the signal that it got, and no thread outlives that.
        """
        self._finishers.shutdown()
        self._writers.shutdown()

    def check(self, request: Request) -> None:
        """Refuse by the headers alone, before the body is read.

        Raises:
            TooLarge, EmptyRecording, UnsupportedBody, InvalidRequest, BadRequest
        """
        declared = declared_bytes(request) or 0
        kind = kind_of(content_type(request))
        require_plain(request.headers)
        if declared > self._limit_bytes + FORM_BYTES:
            raise too_large(self._limit_bytes)
        if kind is BodyKind.JSON and declared > LONGEST_JSON_BYTES:
            raise json_too_large()
        if kind is BodyKind.RECORDING and request.headers.get("content-length") == "0":
            raise empty()
        task_id = new_task_id()
        self._body(request, RecordingFile(self._cache, self._cache.folder(task_id), self._limit_bytes))

    async def receive(
        self,
        request: Request,
        admit: Callable[[], None],
        take: Callable[[Upload], _Result],
        owner: str = ANONYMOUS,
        *,
        hashed: bool = False,
    ) -> _Result:
        """Read the whole body, and return what ``take`` makes of the upload.

        On any failure before ``take``, disconnects included, nothing is left. It runs in the thread that
        made the upload durable, and to its end: a shutdown that cancels this request can't part its steps.

        Args:
            admit: Raises where no upload can be taken. Called in a thread before anything is written, and
                before a body is read that is not short.
            hashed: Tell the recording's SHA-256, too.

        Raises:
            BadRequest, InvalidRequest, EmptyRecording, TooLarge, UploadStalled, DiskFull,
            ClientDisconnect, and what ``admit`` and ``take`` raise
        """
        intake = self._intake(request, owner, hashed=hashed)
        declared = declared_bytes(request)
        is_short = declared is not None and declared <= SHORT_BYTES

        def begin() -> None:
            admit()
            self._cache.require_space(declared or 0)

        def finish(rest: list[bytes]) -> _Result:
            if is_short:
                begin()
            return intake.finish(rest, take)

        try:
            if not is_short:
                await _in_thread(self._finishers, begin)
            with self._counted():
                rest = await self._read(request, intake, is_short=is_short)
            return await _in_thread(self._finishers, finish, rest)
        except BaseException:
            await asyncio.shield(_in_thread(self._writers, intake.call_off))
            raise

    def _intake(self, request: Request, owner: str, *, hashed: bool) -> Intake:
        task_id = new_task_id()
        folder = self._cache.folder(task_id)
        digest = hashlib.sha256() if hashed else None
        recording = RecordingFile(self._cache, folder, self._limit_bytes, digest)
        body = self._body(request, recording)
        return Intake(task_id, folder, recording, body, lambda url: self._name_at(url, owner))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    def _body(self, request: Request, recording: RecordingFile) -> Body:
        query = query_of(request)
        match kind_of(content_type(request)):
            case BodyKind.FORM:
                boundary = boundary_of(content_type(request))
                return RecordingForm(boundary, recording, self._engines, query, self._outputs)
            case BodyKind.JSON:
                return JsonBody(self._engines, query, self._outputs)
            case BodyKind.RECORDING:
                return RecordingBody(recording, self._engines, query, self._outputs)

    def _name_at(self, url: str, owner: str) -> str:
        """What the recording at a URL is probably called; raises InvalidRequest for a URL not to be taken."""
        try:
            return clean_name(unquote(name_in(self._urls.check(url, owner))))
        except BadRequest as exc:
            raise InvalidRequest(exc.message, field="url", kind="url") from exc

    async def _read(self, request: Request, intake: Intake, *, is_short: bool) -> list[bytes]:
        """Feed ``intake`` block by block, and return the last one; a short body is one.

        The first bytes are judged at once; then one block is written while the next is read.
        """
        received_bytes = 0
        chunks: list[bytes] = []
        size, last = 0, time.monotonic()
        writing = _done()
        try:
            async for chunk in _unstalled(request, self._idle_s):
                received_bytes += len(chunk)
                if received_bytes > self._limit_bytes + FORM_BYTES:  # an endless epilogue counts too
                    raise too_large(self._limit_bytes)
                chunks.append(chunk)
                size += len(chunk)
                is_first = not (is_short or intake.has_begun)
                if is_first or size >= block_bytes(self._uploads) or time.monotonic() - last > WRITE_EVERY_S:
                    await writing
                    writing = _in_thread(self._writers, intake.feed, chunks)
                    chunks, size, last = [], 0, time.monotonic()
                if is_first:
                    await writing
            await writing
        finally:
            writing.cancel()  # nobody will ask for it
        return chunks


def _in_thread(
    threads: ThreadPoolExecutor, call: Callable[..., _Result], *args: object
) -> asyncio.Future[_Result]:
    """Begin ``call``, with the request's fields in its log; it ends even if the future is cancelled."""
    return asyncio.get_running_loop().run_in_executor(threads, copy_context().run, call, *args)


def _done() -> asyncio.Future[None]:
    future = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


async def _unstalled(request: Request, idle_s: float) -> AsyncIterator[bytes]:
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as exc:
            raise UploadStalled(f"nothing was sent for {idle_s:g} seconds") from exc
        yield chunk


def declared_bytes(request: Request) -> int | None:
    """The body's size by its Content-Length, which the HTTP server has checked to be a number of 64 bits."""
    length = request.headers.get("content-length")
    return int(length.lstrip("0") or "0") if length else None  # int() refuses thousands of digits, zeros too


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "")


def query_of(request: Request) -> dict[str, str]:
    """The options that the URL's query gives; raises InvalidRequest."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in QUERY_FIELDS:
            raise unknown_field(name, QUERY_FIELDS, "query")
        if name in found:
            raise repeated_field(name, "query")
        found[name] = value
    return found
