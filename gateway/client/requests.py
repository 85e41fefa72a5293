"""What is asked of the service: one Call for each endpoint. Pure, but for the look at an upload's file."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from urllib.parse import quote

from gateway.client.upload import Upload

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from typing import IO

    from gateway.client.models import State
    from gateway.client.upload import Report

Format = Literal["json", "md", "srt", "vtt", "txt"]
FORMATS: tuple[Format, ...] = ("json", "md", "srt", "vtt", "txt")
SCHEMES = ("http://", "https://", "s3://")


class JobOptions(TypedDict, total=False):
    """What one job asks for. What is left out, or None, is not sent: the service's default holds."""

    language: str | None
    max_topics: int | None
    diarize: bool | None
    topics: bool | None
    engine: str | None
    priority: Literal["high", "normal", "low"] | None
    s3_path: str | None
    webhook_url: str | None


@dataclass(frozen=True)
class Call:
    """One request. ``read_s``: seconds of silence that its answer may have; None for the client's usual."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    upload: Upload | None = None
    read_s: float | None = None


def submit(
    source: str | os.PathLike[str] | IO[bytes],
    options: JobOptions,
    idempotency_key: str | None,
    progress: Report | None,
) -> Call:
    """POST /transcribe: a URL as JSON, anything else as an upload. Raises OSError, TypeError."""
    given = {name: value for name, value in options.items() if value is not None}
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    if isinstance(source, str) and is_url(source):
        return Call("POST", "/transcribe", headers=headers, json={"url": source, **given})
    upload = Upload(source, {name: as_text(value) for name, value in given.items()}, progress)
    return Call("POST", "/transcribe", headers=headers | upload.headers, upload=upload)


def is_url(source: str) -> bool:
    """Whether the service is to fetch the recording."""
    return source.lower().startswith(SCHEMES)


def status(task_id: str, *, wait_s: float = 0, read_s: float | None = None) -> Call:
    """GET /status; ``wait_s``: the answer may come so much later, if the status has not changed before."""
    params = {"wait_s": f"{wait_s:g}"} if wait_s else {}
    return Call("GET", _path("status", task_id), params=params, read_s=read_s)


def download(task_id: str, fmt: Format) -> Call:
    if fmt not in FORMATS:
        raise ValueError(f"fmt is one of {', '.join(FORMATS)}, not {fmt!r}")
    return Call("GET", _path("download", task_id), params={"fmt": fmt})


def cancel(task_id: str) -> Call:
    return Call("POST", _path("cancel", task_id))


def release(task_id: str) -> Call:
    return Call("DELETE", _path("release", task_id))


def queue() -> Call:
    return Call("GET", "/queue")


def jobs(state: State | None, cursor: str | None) -> Call:
    params = {"state": state, "cursor": cursor}
    return Call("GET", "/jobs", params={name: str(value) for name, value in params.items() if value})


def as_text(value: object) -> str:
    """A value as a form field writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _path(endpoint: str, task_id: str) -> str:
    return f"/{endpoint}/{quote(task_id, safe='')}"
