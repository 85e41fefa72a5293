"""multipart/form-data as it arrives: the field ``file`` goes to its file, unknown fields are refused.

Blocking (it writes the file): for threads, never for the event loop.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway import job_request
from gateway.errors import InvalidRequest
from gateway.outputs import NOWHERE
from worker.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from gateway.job_request import JobRequest
    from gateway.outputs import Outputs
    from gateway.recording import RecordingFile

FIELD = "file"
FIELDS = (FIELD, *job_request.FIELDS)
LONGEST_TEXT_BYTES = 8192  # the longest URL, were all of its characters of four bytes
LONGEST_NAME = 255


class RecordingForm:
    """Takes the body block by block.

    Args:
        boundary: As the Content-Type gives it.
        recording: Where the field ``file`` goes.
        engines: Those that a job may ask for.
        query: Fields of the URL's query; the body's own go before them.
        outputs: Where its result and news may go.
    """

    def __init__(
        self,
        boundary: bytes,
        recording: RecordingFile,
        engines: Collection[str] = (),
        query: Mapping[str, str] | None = None,
        outputs: Outputs = NOWHERE,
    ) -> None:
        self.recording = recording
        self._engines = engines
        self._query = query or {}
        self._outputs = outputs
        self.file_name = ""
        self._field = ""
        self._seen: set[str] = set()
        self._texts: dict[str, bytes] = {}
        self._ended = False
        self._header_name = self._header_value = b""
        self._disposition = b""
        with _malformed_told():
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._take_header_name,
                    "on_header_value": self._take_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_data,
                    "on_part_data": self._take_data,
                    "on_end": self._end,
                },
            )

    def feed(self, block: bytes) -> None:
        """Parse and write the next bytes of the body.

        Raises:
            BadRequest, InvalidRequest, and what RecordingFile raises
        """
        with _malformed_told():
            self._parser.write(block)

    def flush(self) -> None:
        """Raises DiskFull."""
        self.recording.flush()

    def finish(self) -> None:
        """The body has ended: it must have been whole. A recording in it is durable afterwards."""
        if not self._ended:
            raise BadRequest("the multipart body ends before its closing boundary")
        if self.request.url is not None:  # judged before the recording is made durable
            return
        if FIELD not in self._seen:
            raise InvalidRequest(
                f"the field '{FIELD}' is missing; or give 'url'", field=FIELD, kind="missing"
            )
        self.recording.finish()

    @property
    def request(self) -> JobRequest:
        """What the fields ask for. Raises InvalidRequest."""
        texts = {name: text.decode(errors="replace").strip() for name, text in self._texts.items()}
        return job_request.job_request({**self._query, **texts}, self._engines, outputs=self._outputs)

    def _begin_part(self) -> None:
        self._disposition = b""

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _begin_data(self) -> None:
        kind, options = parse_options_header(self._disposition.decode("latin-1"))
        if kind != b"form-data" or b"name" not in options:
            raise BadRequest("a part of the multipart body has no Content-Disposition that names its field")
        self._admit(options[b"name"].decode(errors="replace"))
        if self._field == FIELD:
            _ = self.request  # what is wrong before the recording is told before it is taken
            self.file_name = clean_name(options.get(b"filename", b"").decode(errors="replace"))

    def _admit(self, field: str) -> None:
        if field not in FIELDS:
            raise job_request.unknown_field(field, FIELDS)
        if field in self._seen:
            raise job_request.repeated_field(field)
        self._seen.add(field)
        self._field = field

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == FIELD:
            self._require_one_source(other=self._texts.get("url", b"").strip())
            self.recording.write(memoryview(data)[start:end])
            return
        if self._field == "url":
            self._require_one_source(other=self.recording.size_bytes)
        text = self._texts.get(self._field, b"") + data[start:end]
        if len(text) > LONGEST_TEXT_BYTES:
            raise InvalidRequest(f"the field '{self._field}' is too long", field=self._field, kind="too_long")
        self._texts[self._field] = text

    def _require_one_source(self, *, other: object) -> None:
        if other:
            raise InvalidRequest(f"give either '{FIELD}' or 'url', not both", field="url", kind="two_sources")

    def _end(self) -> None:
        self._ended = True


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type of multipart/form-data gives; raises BadRequest."""
    _, options = parse_options_header(content_type)
    if not options.get(b"boundary"):
        raise BadRequest("the Content-Type names no boundary")
    return options[b"boundary"]


def clean_name(name: str) -> str:
    """The client's name for the recording: no folders, nothing unprintable, of bounded length."""
    base = name.replace("\\", "/").rpartition("/")[2]
    return "".join(character for character in base if character.isprintable())[:LONGEST_NAME]


@contextmanager
def _malformed_told() -> Iterator[None]:
    try:
        yield
    except FormParserError as exc:
        raise BadRequest(f"the multipart body is malformed: {exc}") from exc
