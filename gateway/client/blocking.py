"""The client that blocks. One object for all threads; close it, or use it in a ``with``."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import httpx

from gateway.client import answers, flows, requests, wiring
from gateway.client.files import format_for, write_atomically
from gateway.client.flows import Rules
from gateway.client.models import Backlog, Document, Job, JobPage, JobStatus
from gateway.client.retries import Outcome, Retry, RetryPolicy
from gateway.client.upload import Line

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterator
    from types import TracebackType
    from typing import IO, Self, Unpack

    from gateway.client.flows import Flow
    from gateway.client.models import State
    from gateway.client.requests import Call, Format, JobOptions
    from gateway.client.upload import Report, Upload

T = TypeVar("T")


class Client:
    """A service.

    Args:
        base_url: Such as ``http://127.0.0.1:8000``; a path in it goes before those of the API.
        api_key: Sent as ``Authorization: Bearer``; shown nowhere.
        timeout_s: Of silence on a connection, not of a whole request.
        retry: When to try again.
        on_retry: Told before the pause that comes before each repetition.

    Every method raises ApiError, ServerAway and BadAnswer (``gateway.client.errors``).
    """

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
        self._http = httpx.Client(limits=wiring.KEEP_ALIVE, **options)
        self._uploads = httpx.Client(limits=wiring.NO_KEEP_ALIVE, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()
        self._uploads.close()

    def transcribe(
        self,
        source: str | os.PathLike[str] | IO[bytes],
        *,
        idempotency_key: str | None = None,
        progress: Report | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Submit a recording. Memory stays flat however long it is.

        Args:
            source: A path, a file opened in binary mode (sent from where it stands), or an http(s) or S3 URL
                that the service fetches.
            idempotency_key: A repetition with the same key is the same job, also from another process. A
                random one where not given.
            progress: Told the bytes sent and their total, None where that is unknown (a pipe). Begins anew
                where the submit is repeated.

        Raises:
            OSError, TypeError, SourceChanged
        """
        return self._ask(requests.submit(source, options, idempotency_key, progress), Job)

    def status(self, task_id: str) -> JobStatus:
        return self._ask(requests.status(task_id), JobStatus)

    def wait(
        self,
        task_id: str,
        timeout_s: float | None = None,
        progress: Callable[[JobStatus], object] | None = None,
    ) -> JobStatus:
        """Until the job has completed or failed: look at ``status``.

        Args:
            progress: Told each status on the way, the last one included.

        Raises:
            WaitTimeout
        """
        return self._run(flows.wait(self._rules, task_id, timeout_s, progress))

    def document(self, task_id: str) -> Document:
        """The result, read."""
        return self._ask(requests.download(task_id, "json"), Document)

    def download(self, task_id: str, fmt: Format = "md") -> str:
        """The result as the service wrote it."""
        return self._run(flows.ask(self._rules, requests.download(task_id, fmt), answers.text))

    def download_to(self, task_id: str, path: str | os.PathLike[str], fmt: Format | None = None) -> None:
        """Write the result to a file, whole or not at all; the format by the file's ending, or ``fmt``."""
        write_atomically(path, self.download(task_id, format_for(path, fmt)))

    def release(self, task_id: str) -> bool:
        """Remove everything of the job. False: done, but its worker has not confirmed yet that it stopped."""
        return self._run(flows.release(self._rules, task_id))

    def cancel(self, task_id: str) -> bool:
        """Stop the job and keep its record. False: as with ``release``."""
        return self._run(flows.ask(self._rules, requests.cancel(task_id), answers.has_stopped))

    def queue(self) -> Backlog:
        return self._ask(requests.queue(), Backlog)

    def jobs(self, state: State | None = None) -> Iterator[JobStatus]:
        """The caller's jobs, newest first, asked for page by page as they are read."""
        page = self._ask(requests.jobs(state, None), JobPage)
        yield from page.jobs
        while page.next_cursor is not None:
            page = self._ask(requests.jobs(state, page.next_cursor), JobPage)
            yield from page.jobs

    def _ask(self, call: Call, kind: type[T]) -> T:
        return self._run(flows.ask(self._rules, call, partial(answers.read, kind)))

    def _run(self, flow: Flow[T]) -> T:
        with closing(flow):
            try:
                step = next(flow)
                while True:
                    time.sleep(step.after_s)
                    step = flow.send(self._send(step.call))
            except StopIteration as end:
                return cast("T", end.value)

    def _send(self, call: Call) -> Outcome:
        arguments = wiring.arguments_of(call, self._rules.timeout_s)
        try:
            if call.upload is None:
                return self._http.request(**arguments)
            line = Line()
            with closing(metered(call.upload, line)) as content:
                trace = {"trace": line.trace}
                return self._uploads.request(**arguments, content=content, extensions=trace)
        except httpx.RequestError as exc:
            return wiring.outcome_of(exc)


def metered(upload: Upload, line: Line) -> Generator[bytes, None, None]:
    with closing(upload.blocks()) as blocks:
        for block in blocks:
            line.require_silence()
            yield block
            upload.report()
