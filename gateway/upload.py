"""Receives a recording: reads the body on the event loop, parses and writes it in threads.

Memory stays flat: uvicorn stops reading the socket while a block is written.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from gateway.errors import UploadStalled
from gateway.form import RecordingForm, boundary_of
from gateway.recording import BLOCK_BYTES, RecordingFile, too_large
from worker.jobs import new_task_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from fastapi import Request

    from gateway.job_request import JobRequest
    from worker.cache import Cache, JobFolder

FORM_BYTES = 64 * 1024  # what boundaries and part headers may add to the recording
IDLE_S = 60.0
# Blocks are written at least so often, whatever their size: the sweeper takes a folder that nobody writes
# to for a crash's remains.
WRITE_EVERY_S = 2.0
WRITERS = 32


@dataclass(frozen=True)
class Upload:
    """A recording that is durably in the cache, and that no record knows yet."""

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
    """

    def __init__(
        self, cache: Cache, limit_bytes: int, engines: Collection[str] = (), idle_s: float = IDLE_S
    ) -> None:
        self._cache = cache
        self._engines = engines
        self._limit_bytes = limit_bytes
        self._idle_s = idle_s
        # Threads of their own: requests that wait for a frozen Redis must not stop uploads, nor these them.
        self._threads = anyio.CapacityLimiter(WRITERS)

    def check(self, request: Request) -> None:
        """Refuse by the headers alone, before the body is read.

        Raises:
            TooLarge, NotMultipart, BadRequest
        """
        declared = declared_bytes(request)
        if declared is not None and declared > self._limit_bytes + FORM_BYTES:
            raise too_large(self._limit_bytes)
        boundary_of(request.headers.get("content-type", ""))

    async def receive(self, request: Request, *, hashed: bool = False) -> Upload:
        """Read the whole body. On any failure, disconnects included, nothing is left of it.

        Args:
            hashed: Tell the recording's SHA-256, too.

        Raises:
            BadRequest, InvalidRequest, EmptyRecording, NotWav, TooLarge, UploadStalled, DiskFull, and
            ClientDisconnect
        """
        task_id = new_task_id()
        folder = self._cache.folder(task_id)
        digest = hashlib.sha256() if hashed else None
        recording = RecordingFile(self._cache, folder, self._limit_bytes, digest)
        form = RecordingForm(boundary_of(request.headers.get("content-type", "")), recording, self._engines)
        try:
            await self._in_thread(self._cache.require_space, declared_bytes(request) or 0)
            await self._read(request, form)
            await self._in_thread(form.finish)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._in_thread(recording.discard)
            raise
        sha256 = digest.hexdigest() if digest else ""
        return Upload(task_id, folder, form.file_name, recording.size_bytes, form.request, sha256)

    async def _read(self, request: Request, form: RecordingForm) -> None:
        received_bytes = 0
        async for block in self._blocks(request, form.recording):
            received_bytes += len(block)
            if received_bytes > self._limit_bytes + FORM_BYTES:  # an endless epilogue counts too
                raise too_large(self._limit_bytes)
            await self._in_thread(form.feed, block)

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
