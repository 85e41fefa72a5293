"""What a server's answer to a request for a recording means. Pure: nothing is read or written here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from worker.errors import SourceIncomplete, SourceRefused, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.sources.resuming import Note

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WHOLE = frozenset({200, 203})
_PASSING = frozenset({408, 425, 429})
_SERVER_ERRORS = 500
# Not an encoding of the content, but left in the metadata of objects by an upload in signed chunks.
_PLAIN = frozenset({"", "identity", "aws-chunked"})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_SECONDS = re.compile(r"\d{1,9}")
_ETAG = re.compile(r'"[\x21\x23-\x7e]{0,256}"')
_REMEDIES = {
    401: "put credentials into the URL, or use a signed one",
    403: "check that the link is public and has not expired",
    404: "check the URL",
    410: "check the URL",
}


@dataclass(frozen=True)
class Answer:
    """Status and headers. Header names are lower case; of those that repeat, the first counts."""

    host: str
    status: int
    headers: dict[str, str]

    def header(self, name: str) -> str:
        return self.headers.get(name, "").strip()


@dataclass(frozen=True)
class Redirect:
    location: str


@dataclass(frozen=True)
class Body:
    """``first_byte`` 0: the whole recording, from the start. An unknown length is None."""

    first_byte: int
    total_bytes: int | None
    validator: str
    content_type: str


def answer_from(host: str, status: int, raw: Iterable[tuple[bytes, bytes]]) -> Answer:
    headers: dict[str, str] = {}
    for name, value in raw:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return Answer(host, status, headers)


def read_answer(answer: Answer, note: Note, now: datetime) -> Redirect | Body:
    """What to do with an answer to a request that asked for what ``note`` lacks.

    Raises SourceRefused, SourceUnavailable, or SourceIncomplete where it can't be joined to what is there.
    """
    status = answer.status
    if status in REDIRECTS and answer.header("location"):
        return Redirect(answer.header("location"))
    if status in _WHOLE:
        return _whole_body(answer)
    if status == HTTPStatus.PARTIAL_CONTENT and note.can_go_on:
        return _rest_of_body(answer, note)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and note.can_go_on:
        raise CannotJoin
    if status in _PASSING or status >= _SERVER_ERRORS:
        pause_s = retry_after_s(answer.header("retry-after"), now)
        raise SourceUnavailable(
            f"{answer.host} answered with status {status}: try again later", retry_after_s=pause_s
        )
    remedy = _REMEDIES.get(status, "use a URL that answers GET with the recording itself")
    raise SourceRefused(f"{answer.host} answered with status {status}: {remedy}")


class CannotJoin(SourceIncomplete):
    """What is there is of another version: begin anew."""

    def __init__(self) -> None:
        super().__init__("the recording changed on its server while it was fetched: try again")


def retry_after_s(text: str, now: datetime) -> int | None:
    """Seconds, from a Retry-After of seconds or of a date; None for none, or one that makes no sense."""
    if _SECONDS.fullmatch(text):
        return int(text)
    moment = _date(text)
    return None if moment is None else max(0, math.ceil((moment - now).total_seconds()))


def validator_of(answer: Answer) -> str:
    """What If-Range may carry: a strong ETag, or a Last-Modified older than the answer; or nothing."""
    etag = answer.header("etag")
    if etag:
        return etag if _ETAG.fullmatch(etag) else ""
    modified, sent = _date(answer.header("last-modified")), _date(answer.header("date"))
    # RFC 9110, 8.8.2.2: within one second it might have changed twice.
    is_strong = modified and sent and (sent - modified).total_seconds() >= 1
    return answer.header("last-modified") if is_strong else ""


def require_plain(encoding: str, host: str) -> None:
    """Raise SourceRefused for a compressed body: a small one may hold any number of bytes."""
    if encoding.strip().lower() not in _PLAIN:
        raise SourceRefused(
            f"{host} compresses the recording on its way, though it was asked not to: serve it as it is"
        )


def _whole_body(answer: Answer) -> Body:
    require_plain(answer.header("content-encoding"), answer.host)
    length = answer.header("content-length")
    chunked = answer.header("transfer-encoding").lower() == "chunked"
    if not length and not chunked:
        raise SourceRefused(
            f"{answer.host} does not say where the recording ends, so a part might pass for the whole: "
            "use a server that sends Content-Length"
        )
    total = None if chunked else int(length)
    return Body(0, total, validator_of(answer), _content_type(answer))


def _rest_of_body(answer: Answer, note: Note) -> Body:
    require_plain(answer.header("content-encoding"), answer.host)
    match = _CONTENT_RANGE.fullmatch(answer.header("content-range"))
    if match is None:
        raise CannotJoin
    first, last = int(match[1]), int(match[2])
    total = note.total_bytes if match[3] == "*" else int(match[3])
    changed = validator_of(answer) not in {"", note.validator} or note.total_bytes not in {None, total}
    if total is None or changed or first != note.kept_bytes or not first <= last < total:
        raise CannotJoin
    return Body(first, total, note.validator, _content_type(answer))


def _content_type(answer: Answer) -> str:
    return answer.header("content-type")[:100]


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
