"""One upload on its way in: who answers for it, the request that brings it or the job that is made of it.

Blocking, as gateway.form: for threads.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.bodies import Body
    from gateway.job_request import JobRequest
    from gateway.recording import RecordingFile
    from worker.cache import JobFolder

_Result = TypeVar("_Result")


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


class Intake:
    """Takes the body block by block, and hands the upload over once it is whole.

    Args:
        name_at: What the recording at a URL is probably called; raises InvalidRequest.
    """

    def __init__(
        self,
        task_id: str,
        folder: JobFolder,
        recording: RecordingFile,
        body: Body,
        name_at: Callable[[str], str],
    ) -> None:
        self._task_id, self._folder = task_id, folder
        self._recording, self._body = recording, body
        self._name_at = name_at
        self._lock = Lock()
        self._is_handed_over = self._is_off = False

    @property
    def has_begun(self) -> bool:
        """Whether the recording's first bytes have been judged, and are being written."""
        return self._recording.is_open

    def feed(self, chunks: Sequence[bytes]) -> None:
        """Raises what the body's ``feed`` and ``flush`` raise."""
        for chunk in chunks:
            self._body.feed(chunk)
        self._body.flush()

    def finish(self, rest: Sequence[bytes], take: Callable[[Upload], _Result]) -> _Result:
        """Take the last blocks, make the upload durable, and return what ``take`` makes of it.

        Raises what ``feed``, the body's ``finish`` and ``take`` raise; CancelledError where the request has
        ended meanwhile.
        """
        self.feed(rest)
        self._body.finish()
        upload = self._upload()
        self._hand_over()
        return take(upload)

    def call_off(self) -> None:
        """Leave nothing of the upload, unless it was handed over."""
        with self._lock:
            self._is_off = not self._is_handed_over
        if self._is_off:
            self._recording.discard()

    def _upload(self) -> Upload:
        asked, file_name = self._body.request, self._body.file_name
        if asked.url is not None:
            file_name = self._name_at(asked.url)
            self._folder.create()
        return Upload(
            self._task_id, self._folder, file_name, self._recording.size_bytes, asked, self._recording.sha256
        )

    def _hand_over(self) -> None:
        with self._lock:
            self._is_handed_over = not self._is_off
        if not self._is_handed_over:
            self._recording.discard()
            raise asyncio.CancelledError
