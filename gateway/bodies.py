"""The kinds of body that POST /transcribe takes, beside multipart: a recording as it is, and JSON with a URL.

Blocking, as gateway.form: for threads.
"""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

from gateway.errors import InvalidRequest, UnsupportedBody
from gateway.job_request import JobRequest, job_request, repeated_field
from gateway.outputs import NOWHERE
from worker.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gateway.outputs import Outputs
    from gateway.recording import RecordingFile

LONGEST_JSON_BYTES = 64 * 1024


class BodyKind(Enum):
    FORM = auto()
    JSON = auto()
    RECORDING = auto()


class Body(Protocol):
    """Takes a request's body block by block."""

    file_name: str

    @property
    def request(self) -> JobRequest:
        """What the body asks for; raises InvalidRequest."""

    def feed(self, block: bytes) -> None: ...

    def flush(self) -> None:
        """After each few blocks. Raises DiskFull."""

    def finish(self) -> None:
        """The body has ended. A recording in it is durable afterwards."""


class RecordingBody:
    """The body is the recording, and all options are in the query.

    Raises InvalidRequest where they are no good.
    """

    file_name = ""

    def __init__(
        self,
        recording: RecordingFile,
        engines: Collection[str],
        query: Mapping[str, str],
        outputs: Outputs = NOWHERE,
    ) -> None:
        self._recording = recording
        self.request = job_request(query, engines, where="query", outputs=outputs)

    def feed(self, block: bytes) -> None:
        """Raises TooLarge, DiskFull."""
        self._recording.write(block)

    def flush(self) -> None:
        self._recording.flush()

    def finish(self) -> None:
        """Raises EmptyRecording, DiskFull."""
        self._recording.finish()


class JsonBody:
    """One object with the URL of the recording, and options."""

    file_name = ""

    def __init__(
        self, engines: Collection[str], query: Mapping[str, str], outputs: Outputs = NOWHERE
    ) -> None:
        self._engines = engines
        self._outputs = outputs
        self._query = query
        self._text = b""

    def feed(self, block: bytes) -> None:
        """Raises TooLarge."""
        self._text += block
        if len(self._text) > LONGEST_JSON_BYTES:
            raise json_too_large()

    def flush(self) -> None:
        pass

    def finish(self) -> None:
        """Raises BadRequest, InvalidRequest."""
        if self.request.url is None:
            raise InvalidRequest("the field 'url' is missing", field="url", kind="missing")

    @property
    def request(self) -> JobRequest:
        fields = {**self._query, **_object(self._text)}
        return job_request(fields, self._engines, outputs=self._outputs)


def kind_of(content_type: str) -> BodyKind:
    """What a Content-Type header announces; raises UnsupportedBody."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return BodyKind.FORM
    if kind == "application/json":
        return BodyKind.JSON
    if kind == "application/octet-stream" or kind.startswith(("audio/", "video/")):
        return BodyKind.RECORDING
    raise UnsupportedBody(
        "send multipart/form-data with the field 'file' or 'url', or JSON with 'url' (Content-Type: "
        "application/json), or the recording itself (Content-Type: audio/..., video/... or "
        "application/octet-stream)"
    )


def require_plain(headers: Mapping[str, str]) -> None:
    """Refuse a compressed body: a worker would find no audio in it. Raises UnsupportedBody."""
    transfer = headers.get("transfer-encoding", "chunked").strip().lower()
    content = headers.get("content-encoding", "identity").strip().lower()
    if transfer != "chunked" or content != "identity":
        raise UnsupportedBody(
            "send the body as it is: no Content-Encoding is taken, nor a compressed transfer"
        )


def json_too_large() -> TooLarge:
    return TooLarge(f"a JSON body may have {LONGEST_JSON_BYTES} bytes at most")


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON that can be read") from None
    if not isinstance(value, dict):
        raise BadRequest('the body must be a JSON object, such as {"url": "https://..."}')
    return value


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for given, value in pairs:
        name = given.encode(errors="replace").decode()  # JSON can name half a character
        if name in found:
            raise repeated_field(name)
        found[name] = value
    return found
