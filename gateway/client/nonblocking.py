"""The client for asyncio and trio: the methods of ``blocking.Client``, to be awaited, and no others.

What they take, give and raise is told there.
"""

from __future__ import annotations

from contextlib import aclosing, closing
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import anyio
import httpx
from anyio import to_thread

from gateway.client import answers, flows, requests, wiring
from gateway.client.files import format_for, write_atomically
from gateway.client.flows import Rules
from gateway.client.models import Backlog, Document, Job, JobPage, JobStatus
from gateway.client.retries import Outcome, Retry, RetryPolicy
from gateway.client.upload import Line

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from types import TracebackType
    from typing import IO, Self, Unpack

    from gateway.client.flows import Flow
    from gateway.client.models import State
    from gateway.client.requests import Call, Format, JobOptions
    from gateway.client.upload import Report, Upload

T = TypeVar("T")


class AsyncClient:
    """A service; see ``Client``. Callbacks are plain functions, called on the event loop."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retry: RetryPolicy | None = None,
        on_retry: Callable[[Retry], object] | None = None,
    ) -> None:
        self._rules = Rules(retry or RetryPolicy(), timeout_s, on_retry)
        options = wiring.options_of(base_url, api_key)
        self._http = httpx.AsyncClient(limits=wiring.KEEP_ALIVE, **options)
        self._uploads = httpx.AsyncClient(limits=wiring.NO_KEEP_ALIVE, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()
        await self._uploads.aclose()

    async def transcribe(
        self,
        source: str | os.PathLike[str] | IO[bytes],
        *,
        idempotency_key: str | None = None,
        progress: Report | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """As ``Client.transcribe``; the recording is read in a thread."""
        return await self._ask(requests.submit(source, options, idempotency_key, progress), Job)

    async def status(self, task_id: str) -> JobStatus:
        return await self._ask(requests.status(task_id), JobStatus)

    async def wait(
        self,
        task_id: str,
        timeout_s: float | None = None,
        progress: Callable[[JobStatus], object] | None = None,
    ) -> JobStatus:
        return await self._run(flows.wait(self._rules, task_id, timeout_s, progress))

    async def document(self, task_id: str) -> Document:
        return await self._ask(requests.download(task_id, "json"), Document)

    async def download(self, task_id: str, fmt: Format = "md") -> str:
        return await self._run(flows.ask(self._rules, requests.download(task_id, fmt), answers.text))

    async def download_to(
        self, task_id: str, path: str | os.PathLike[str], fmt: Format | None = None
    ) -> None:
        content = await self.download(task_id, format_for(path, fmt))
        await to_thread.run_sync(write_atomically, path, content)

    async def release(self, task_id: str) -> bool:
        return await self._run(flows.release(self._rules, task_id))

    async def cancel(self, task_id: str) -> bool:
        return await self._run(flows.ask(self._rules, requests.cancel(task_id), answers.has_stopped))

    async def queue(self) -> Backlog:
        return await self._ask(requests.queue(), Backlog)

    async def jobs(self, state: State | None = None) -> AsyncIterator[JobStatus]:
        cursor: str | None = None
        while True:
            page = await self._ask(requests.jobs(state, cursor), JobPage)
            for job in page.jobs:
                yield job
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _ask(self, call: Call, kind: type[T]) -> T:
        return await self._run(flows.ask(self._rules, call, partial(answers.read, kind)))

    async def _run(self, flow: Flow[T]) -> T:
        with closing(flow):
            try:
                step = next(flow)
                while True:
                    await anyio.sleep(step.after_s)
                    step = flow.send(await self._send(step.call))
            except StopIteration as end:
                return cast("T", end.value)

    async def _send(self, call: Call) -> Outcome:
        arguments = wiring.arguments_of(call, self._rules.timeout_s)
        try:
            if call.upload is None:
                return await self._http.request(**arguments)
            line = Line()
            async with aclosing(metered(call.upload, line)) as content:
                trace = {"trace": line.atrace}
                return await self._uploads.request(**arguments, content=content, extensions=trace)
        except httpx.RequestError as exc:
            return wiring.outcome_of(exc)


async def metered(upload: Upload, line: Line) -> AsyncGenerator[bytes, None]:
    with closing(upload.blocks()) as blocks:
        while (block := await to_thread.run_sync(next, blocks, None)) is not None:
            line.require_silence()
            yield block
            upload.report()
