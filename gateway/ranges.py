"""Conditional and partial answers (RFC 9110, 13 and 14) from content that is whole in memory."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from http import HTTPStatus

_RANGE = re.compile(r"bytes=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Slice:
    """``begin`` and ``end`` as Python's slices have them."""

    status: HTTPStatus
    begin: int
    end: int

    def content_range(self, size: int) -> str | None:
        """The header for this part of ``size`` bytes; None where there is none."""
        if self.status is HTTPStatus.PARTIAL_CONTENT:
            return f"bytes {self.begin}-{self.end - 1}/{size}"
        return f"bytes */{size}" if self.status is HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE else None


def etag_of(content: bytes) -> str:
    """A strong validator: content that has it is the same, byte for byte."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def is_unchanged(if_none_match: str, etag: str) -> bool:
    """Whether the client has this content already: by the weak comparison, as the RFC wants it here."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


def slice_of(header: str, if_range: str, etag: str, size: int) -> Slice:
    """What a Range asks for. All of it where there is none, several, one we can't read, or another's ETag.

    Args:
        if_range: The header of that name; a date in it is never ours, for we give none.
    """
    whole = Slice(HTTPStatus.OK, 0, size)
    found = _RANGE.fullmatch(header.strip())
    if not found or not (found[1] or found[2]) or (if_range and if_range.strip() != etag):
        return whole
    if found[1]:
        begin, end = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < begin:
            return whole  # no range at all, says the RFC
    else:
        begin, end = max(0, size - int(found[2])), size
    if begin >= end:
        return Slice(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0)
    return Slice(HTTPStatus.PARTIAL_CONTENT, begin, end)
