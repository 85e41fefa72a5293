"""Fetches a recording from a bucket of S3's kind into a file of the job's folder.

The client is the caller's, made for the operator's own endpoint: the address guard has no part here. It
should make one try of its own, with timeouts no longer than the limits'. No message quotes the server.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from worker.errors import SourceIncomplete, SourceRefused, SourceUnavailable
from worker.sources.answers import Answer, Body, CannotJoin, Redirect, read_answer
from worker.sources.intake import Fetched, FetchLimits, Intake, bring
from worker.sources.watching import Overdue, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from worker.sources.urls import S3Object

CHUNK_BYTES = 64 * 1024
_REMEDIES = {
    "NoSuchBucket": "there is no such bucket: ask the operator",
    "NoSuchKey": "there is no such object: check the key",
    "InvalidObjectState": "the object is archived: restore it first",
}
_DENIED = frozenset({401, 403})
_THROTTLED = frozenset({"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException"})


class ObjectReader(Protocol):
    """What is used of boto3's client."""

    def get_object(self, *, Bucket: str, Key: str, Range: str = ...) -> Any: ...  # noqa: N803  boto3's names


def fetch_object(
    source: S3Object,
    target: Path,
    limits: FetchLimits,
    client: ObjectReader,
    check: Callable[[], None],
    report: Callable[[int, int | None], None],
    *,
    require_space: Callable[[int], None],
) -> Fetched:
    """Bring the object to ``target``: as ``worker.sources.fetch.fetch`` does, and raising the same."""
    watch = Watch(check, limits.total_s)
    one_try = S3Source(source, limits, client, watch).one_try
    return bring(f"s3://{source.bucket}/{source.key}", target, limits, watch, one_try, report, require_space)


@dataclass(frozen=True)
class S3Source:
    source: S3Object
    limits: FetchLimits
    client: ObjectReader
    watch: Watch

    def one_try(self, intake: Intake) -> None:
        response = self._asked(intake)
        with closing(response["Body"]) as stream:
            body = self._body(response["ResponseMetadata"], intake)
            if body.first_byte:
                intake.go_on(body.total_bytes, body.content_type)
            else:
                intake.begin(body.validator, body.total_bytes, body.content_type)
            chunks = self.watch.iterate(lambda: stream.iter_chunks(CHUNK_BYTES), self.limits.idle_s)
            with closing(chunks), _as_incomplete(intake):
                for chunk in chunks:
                    intake.take(chunk)
        intake.end()

    def _asked(self, intake: Intake) -> Any:
        note, named = intake.part.note, {"Bucket": self.source.bucket, "Key": self.source.key}
        if note.can_go_on:
            named["Range"] = f"bytes={note.kept_bytes}-"
        try:
            return self.watch.call(
                lambda: self.client.get_object(**named), self.limits.connect_s + self.limits.idle_s
            )
        except ClientError as exc:
            raise _as_ours(exc, intake) from exc
        except (HTTPClientError, Overdue) as exc:
            raise SourceUnavailable("S3 can't be reached: try again later") from exc
        except BotoCoreError as exc:
            raise SourceRefused(
                f"S3 can't be asked for the object ({type(exc).__name__}): ask the operator"
            ) from exc

    def _body(self, metadata: dict[str, Any], intake: Intake) -> Body:
        headers = {str(name).lower(): str(value) for name, value in metadata["HTTPHeaders"].items()}
        answer = Answer(f"s3://{self.source.bucket}", int(metadata["HTTPStatusCode"]), headers)
        try:
            step = read_answer(answer, intake.part.note, datetime.now(UTC))
        except CannotJoin:
            intake.part.discard()
            raise
        if isinstance(step, Redirect):
            raise SourceRefused(f"{answer.host} is elsewhere: ask the operator")
        return step


def _as_ours(exc: ClientError, intake: Intake) -> SourceRefused | SourceUnavailable | SourceIncomplete:
    status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(exc.response.get("Error", {}).get("Code", ""))
    if status == 416:  # noqa: PLR2004  HTTP's own: the object is shorter than what is there
        intake.part.discard()
        return CannotJoin()
    if status >= 500 or status in {408, 429} or code in _THROTTLED:  # noqa: PLR2004  HTTP's own
        return SourceUnavailable(f"S3 answered with status {status}: try again later")
    if code in _REMEDIES:
        return SourceRefused(f"S3: {_REMEDIES[code]}")
    if status in _DENIED:
        return SourceRefused("S3: this service may not read the object: check the key, or ask the operator")
    return SourceRefused(f"S3 answered with status {status}: ask the operator")


@contextmanager
def _as_incomplete(intake: Intake) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, Overdue) as exc:
        raise SourceIncomplete(
            f"the recording broke off after {intake.part.done_bytes} bytes: submit it again"
        ) from exc
