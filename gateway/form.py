"""multipart/form-data as it arrives: the field ``file`` goes to its file, anything else is refused.

Blocking (it writes the file): for threads, never for the event loop.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway import job_request
from gateway.errors import InvalidRequest, NotMultipart
from worker.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from gateway.job_request import JobRequest
    from gateway.recording import RecordingFile

FIELD = "file"
FIELDS = (FIELD, *job_request.FIELDS)
LONGEST_TEXT = 64
LONGEST_NAME = 255
LONGEST_FIELD_SHOWN = 64


class RecordingForm:
    """Takes the body block by block.

    Args:
        boundary: As the Content-Type gives it.
        recording: Where the field ``file`` goes.
        engines: Those that a job may ask for.
    """

    def __init__(self, boundary: bytes, recording: RecordingFile, engines: Collection[str] = ()) -> None:
        self.recording = recording
        self._engines = engines
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
        self.recording.flush()

    def finish(self) -> None:
        """The body has ended: it must have been whole. The recording is durable afterwards."""
        if not self._ended:
            raise BadRequest("the multipart body ends before its closing boundary")
        if FIELD not in self._seen:
            raise InvalidRequest(f"the field '{FIELD}' is missing", field=FIELD, kind="missing")
        _ = self.request  # judged before the recording is made durable
        self.recording.finish()

    @property
    def request(self) -> JobRequest:
        """What the fields ask for. Raises InvalidRequest."""
        texts = {name: text.decode(errors="replace").strip() for name, text in self._texts.items()}
        return job_request.job_request(texts, self._engines)

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
            self.file_name = clean_name(options.get(b"filename", b"").decode(errors="replace"))

    def _admit(self, field: str) -> None:
        if field not in FIELDS:
            shown, known = field[:LONGEST_FIELD_SHOWN], ", ".join(f"'{name}'" for name in FIELDS)
            raise InvalidRequest(
                f"unknown field {shown!r}; known: {known}", field=shown, kind="extra_forbidden"
            )
        if field in self._seen:
            raise InvalidRequest(f"the field '{field}' may be given once only", field=field, kind="repeated")
        self._seen.add(field)
        self._field = field

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._field == FIELD:
            self.recording.write(memoryview(data)[start:end])
            return
        text = self._texts.get(self._field, b"") + data[start:end]
        if len(text) > LONGEST_TEXT:
            raise InvalidRequest(f"the field '{self._field}' is too long", field=self._field, kind="too_long")
        self._texts[self._field] = text

    def _end(self) -> None:
        self._ended = True


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type header gives.

    Raises:
        NotMultipart, BadRequest
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise NotMultipart(f"send the recording as multipart/form-data, in the field '{FIELD}'")
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
