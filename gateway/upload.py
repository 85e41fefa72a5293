"""Receives a recording or its URL: reads the body on the event loop, parses and writes it in threads.

Memory stays flat: uvicorn stops reading the socket while a block is written.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

import anyio
from anyio import to_thread

from gateway.bodies import LONGEST_JSON_BYTES, BodyKind, JsonBody, RecordingBody, json_too_large, kind_of
from gateway.errors import InvalidRequest, UploadStalled
from gateway.form import RecordingForm, boundary_of, clean_name
from gateway.job_request import QUERY_FIELDS, repeated_field, unknown_field
from gateway.outputs import NOWHERE, Outputs
from gateway.recording import BLOCK_BYTES, RecordingFile, empty, too_large
from worker.errors import BadRequest
from worker.jobs import new_task_id
from worker.jobs.record import ANONYMOUS
from worker.sources.addresses import PUBLIC_ONLY
from worker.sources.rules import UrlRules, name_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from fastapi import Request

    from gateway.bodies import Body
    from gateway.job_request import JobRequest
    from worker.cache import Cache, JobFolder

FORM_BYTES = 64 * 1024  # what boundaries and part headers may add to the recording
IDLE_S = 60.0
# Blocks are written at least so often, whatever their size: the sweeper takes a folder that nobody writes
# to for a crash's remains.
WRITE_EVERY_S = 2.0
WRITERS = 32
NO_RULES = UrlRules(PUBLIC_ONLY)


@dataclass(frozen=True)
class Upload:
    """A recording that is durably in the cache, or the URL of one; no record knows it yet.

    Of a URL the folder is there, empty.
    """

    task_id: str
    folder: JobFolder
    file_name: str
    size_bytes: int
    request: JobRequest
    sha256: str = ""  # of the recording, where it was asked for


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
        # Threads of their own: requests that wait for a frozen Redis must not stop uploads, nor these them.
        self._threads = anyio.CapacityLimiter(WRITERS)

    def check(self, request: Request) -> None:
        """Refuse by the headers alone, before the body is read.

        Raises:
            TooLarge, EmptyRecording, UnsupportedBody, InvalidRequest, BadRequest
        """
        declared = declared_bytes(request) or 0
        kind = kind_of(content_type(request))
        if declared > self._limit_bytes + FORM_BYTES:
            raise too_large(self._limit_bytes)
        if kind is BodyKind.JSON and declared > LONGEST_JSON_BYTES:
            raise json_too_large()
        if kind is BodyKind.RECORDING and request.headers.get("content-length") == "0":
            raise empty()
        task_id = new_task_id()
        self._body(request, RecordingFile(self._cache, self._cache.folder(task_id), self._limit_bytes))

    async def receive(self, request: Request, owner: str = ANONYMOUS, *, hashed: bool = False) -> Upload:
        """Read the whole body. On any failure, disconnects included, nothing is left of it.

        Args:
            hashed: Tell the recording's SHA-256, too.

        Raises:
            BadRequest, InvalidRequest, EmptyRecording, TooLarge, UploadStalled, DiskFull, and
            ClientDisconnect
        """
        task_id = new_task_id()
        folder = self._cache.folder(task_id)
        digest = hashlib.sha256() if hashed else None
        recording = RecordingFile(self._cache, folder, self._limit_bytes, digest)
        body = self._body(request, recording)
        try:
            await self._in_thread(self._cache.require_space, declared_bytes(request) or 0)
            await self._read(request, body, recording)
            await self._in_thread(body.finish)
            file_name = body.file_name
            if body.request.url is not None:
                file_name = self._name_at(body.request.url, owner)
                await self._in_thread(folder.create)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._in_thread(recording.discard)
            raise
        sha256 = digest.hexdigest() if digest else ""
        return Upload(task_id, folder, file_name, recording.size_bytes, body.request, sha256)

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

    async def _read(self, request: Request, body: Body, recording: RecordingFile) -> None:
        received_bytes = 0
        async for block in self._blocks(request, recording):
            received_bytes += len(block)
            if received_bytes > self._limit_bytes + FORM_BYTES:  # an endless epilogue counts too
                raise too_large(self._limit_bytes)
            await self._in_thread(body.feed, block)

    async def _blocks(self, request: Request, recording: RecordingFile) -> AsyncIterator[bytes]:
        """The body in blocks worth a thread's while; the first bytes at once, so that they are judged."""
        chunks: list[bytes] = []
        size, last = 0, time.monotonic()
        async for chunk in _unstalled(request, self._idle_s):
            chunks.append(chunk)
            size += len(chunk)
            if size >= BLOCK_BYTES or not recording.is_open or time.monotonic() - last > WRITE_EVERY_S:
                yield b"".join(chunks)
                chunks, size, last = [], 0, time.monotonic()
        yield b"".join(chunks)

    async def _in_thread(self, call: Callable[..., object], *args: object) -> None:
        await to_thread.run_sync(call, *args, limiter=self._threads)


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
    """The body's size by its Content-Length, which the HTTP server has checked to be a number."""
    return int(length) if (length := request.headers.get("content-length")) else None


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
