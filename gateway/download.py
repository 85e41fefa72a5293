"""GET /download: the result document as it is stored, as Markdown, captions or plain text."""

from collections.abc import Callable
from enum import StrEnum
from http import HTTPStatus
from pathlib import PurePath
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.datastructures import Headers

from gateway.access import CallerOf
from gateway.errors import InvalidRequest, RangeNotSatisfiable, ResultMissing
from gateway.lookup import find
from gateway.openapi import problems
from gateway.ranges import etag_of, is_unchanged, slice_of
from gateway.services import ServicesOf
from gateway.status import wait_s
from worker.cache import JobFolder
from worker.delivery.captions import to_srt, to_txt, to_vtt
from worker.delivery.document import Document
from worker.delivery.markdown import to_markdown
from worker.errors import JobFailed, JobGone, JobNotFinished, JobNotFound, S3Delivered
from worker.jobs import JobRecord, JobState
from worker.logs import get_logger

log = get_logger(__name__)
router = APIRouter()

LONGEST_STEM = 100


class Format(StrEnum):
    JSON = "json"
    MD = "md"
    SRT = "srt"
    VTT = "vtt"
    TXT = "txt"


MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.MD: "text/markdown; charset=utf-8",
    Format.SRT: "application/x-subrip; charset=utf-8",
    Format.VTT: "text/vtt; charset=utf-8",
    Format.TXT: "text/plain; charset=utf-8",
}
WRITERS: dict[Format, Callable[[Document], str]] = {
    Format.MD: to_markdown,
    Format.SRT: to_srt,
    Format.VTT: to_vtt,
    Format.TXT: to_txt,
}


ONE_HEADER = {"schema": {"type": "string"}}


@router.head("/download/{task_id}", include_in_schema=False)
@router.get(
    "/download/{task_id}",
    tags=["jobs"],
    response_class=Response,
    responses={
        200: {
            "description": "The result, in the format asked for.",
            "model": Document,
            "content": {
                media_type.partition(";")[0]: {"schema": {"type": "string"}}
                for fmt, media_type in MEDIA_TYPES.items()
                if fmt is not Format.JSON
            },
            "headers": {"ETag": ONE_HEADER},
        },
        206: {
            "description": "The part of it that Range asked for.",
            "content": {media_type.partition(";")[0]: {} for media_type in MEDIA_TYPES.values()},
            "headers": {"Content-Range": ONE_HEADER},
        },
        304: {"description": "If-None-Match has its ETag."},
        **problems(
            JobNotFound,
            JobNotFinished,
            JobFailed,
            S3Delivered,
            JobGone,
            RangeNotSatisfiable,
            InvalidRequest,
            ResultMissing,
        ),
    },
)
def download(
    task_id: str,
    request: Request,
    services: ServicesOf,
    caller: CallerOf,
    fmt: Annotated[Format | None, Query(description="Goes before Accept; default json.")] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """The result of a completed job, whole or one range of it."""
    record = find(services.store, task_id, caller)
    require_completed(record)
    chosen = fmt or preferred(accept)
    try:
        content = render(services.cache.folder(task_id), record, chosen)
    except FileNotFoundError as exc:
        # Released, expired or delivered in this very moment: 410, 409.
        require_completed(find(services.store, task_id, caller))
        log.exception("result_missing", task_id=task_id)
        raise ResultMissing("the job is completed, but its result is no longer in the cache") from exc
    headers = {
        "Content-Disposition": disposition(f"{stem_of(record)}.{chosen}"),
        "Cache-Control": "private, no-cache",
        "Vary": "Accept",
        "Accept-Ranges": "bytes",
        "ETag": etag_of(content),
    }
    asked_range = request.headers.get("range", "") if request.method == "GET" else ""
    return answer(request.headers, asked_range, content, headers, MEDIA_TYPES[chosen])


def answer(
    asked: Headers, asked_range: str, content: bytes, headers: dict[str, str], media_type: str
) -> Response:
    """All of the content, a part of it, or that the client has it already.

    Raises:
        RangeNotSatisfiable
    """
    etag = headers["ETag"]
    if is_unchanged(asked.get("if-none-match", ""), etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    part = slice_of(asked_range, asked.get("if-range", ""), etag, len(content))
    content_range = part.content_range(len(content))
    if part.status is HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise RangeNotSatisfiable(f"the result has {len(content)} bytes", content_range or "")
    if content_range:
        headers = {**headers, "Content-Range": content_range}
    return Response(content[part.begin : part.end], part.status, headers=headers, media_type=media_type)


def require_completed(record: JobRecord) -> None:
    """Raise what stands in the way of a download."""
    if record.state is JobState.FAILED:
        raise JobFailed(f"the job has failed: {record.error_code}: {record.error_message}")
    if record.state is not JobState.COMPLETED:
        raise JobNotFinished("the job has not finished: see its status", retry_after_s=wait_s(record))
    if record.s3_urls:
        raise S3Delivered(f"the result was delivered: {', '.join(record.s3_urls)}", record.s3_urls)


def render(folder: JobFolder, record: JobRecord, chosen: Format) -> bytes:
    """Raises FileNotFoundError where the result is missing."""
    # Whole, not as a file to be sent: a release in mid-answer would break it off. Some MB for a long day.
    stored = (folder.path / record.result).read_bytes()
    write = WRITERS.get(chosen)
    return write(Document.model_validate_json(stored)).encode() if write else stored


def preferred(accept: str) -> Format:
    """JSON or Markdown, as an Accept header likes best; JSON where it names neither, or both alike."""
    markdown = quality(accept, "text/markdown")
    return Format.MD if markdown and markdown > (quality(accept, "application/json") or 0) else Format.JSON


def quality(accept: str, media_type: str) -> float | None:
    """The weight (RFC 9110, 12.5.1) that the header gives a media type by name; wildcards say nothing."""
    for entry in accept.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        if name == media_type:
            weights = [value for value in parameters if value.startswith("q=")]
            return _number(weights[0][2:]) if weights else 1.0
    return None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def stem_of(record: JobRecord) -> str:
    """What to call the result: as the recording was called, or by the task id."""
    return PurePath(record.file_name).stem[:LONGEST_STEM].strip(" .") or record.id


def disposition(name: str) -> str:
    """A Content-Disposition for any name (RFC 6266): the real one encoded, one in ASCII for old clients."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in " ._-()") else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
