"""What a client asks of a job: one model for every kind of body, and for the query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, ValidationError

from gateway.errors import InvalidRequest
from gateway.outputs import NOWHERE
from worker.delivery.bucket import MAX_PATH_BYTES
from worker.jobs import Priority
from worker.jobs.options import JobOptions
from worker.sources.urls import MAX_URL_LENGTH

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic_core import ErrorDetails

    from gateway.outputs import Outputs


LONGEST_FIELD_SHOWN = 64
MOST_FAULTS_TOLD = 20


class JobRequest(JobOptions):
    model_config = ConfigDict(frozen=True, extra="forbid")

    priority: Priority = Field(Priority.NORMAL, description="Jobs of a higher one go first.")
    s3_path: str | None = Field(
        None,
        max_length=MAX_PATH_BYTES,
        description="Where in the server's bucket the result goes: without a leading slash, and without "
        ".json and .md, which are added.",
    )
    webhook_url: str | None = Field(
        None,
        max_length=MAX_URL_LENGTH,
        description="Public http(s) URL that is told when the job has ended.",
        repr=False,  # it may hold a key
    )
    url: str | None = Field(
        None,
        max_length=MAX_URL_LENGTH,
        description="Where the recording lies, instead of one in the body: http, https or s3.",
        repr=False,  # it may hold credentials
    )

    @property
    def options(self) -> JobOptions:
        return JobOptions.model_validate(self.model_dump(exclude_unset=True))


FIELDS = tuple(JobRequest.model_fields)
QUERY_FIELDS = tuple(
    name for name in FIELDS if name not in {"url", "webhook_url"}
)  # a URL of the query would stand in proxies' logs


def job_request(
    fields: Mapping[str, Any],
    engines: Collection[str],
    *,
    where: str = "body",
    outputs: Outputs = NOWHERE,
) -> JobRequest:
    """The fields as a request. What was left empty counts as left out.

    Args:
        engines: Those that a job may ask for.
        where: The part of the HTTP request that the fields come from.
        outputs: Where its result and news may go.

    Raises:
        InvalidRequest: names every field that is wrong.
    """
    given = {name: value for name, value in fields.items() if value is not None and value != ""}
    try:
        request = JobRequest.model_validate(given)
    except ValidationError as exc:
        raise invalid(exc.errors(), where) from exc
    if request.engine is not None and request.engine not in engines:
        offered = f"offered: {', '.join(engines)}" if engines else "none may be chosen here: leave it out"
        raise InvalidRequest(
            f"the field 'engine': this server does not offer {request.engine!r}; {offered}",
            field="engine",
            kind="enum",
            where=where,
        )
    outputs.check(request.s3_path, request.webhook_url, where)
    return request


def unknown_field(name: str, known: Collection[str], where: str = "body") -> InvalidRequest:
    shown = shortened(name)
    listed = ", ".join(f"'{field}'" for field in known)
    return InvalidRequest(
        f"unknown field {shown!r}; known: {listed}", field=shown, kind="extra_forbidden", where=where
    )


def repeated_field(name: str, where: str = "body") -> InvalidRequest:
    return InvalidRequest(
        f"the field {shortened(name)!r} may be given once only",
        field=shortened(name),
        kind="repeated",
        where=where,
    )


def invalid(errors: list[ErrorDetails], where: str) -> InvalidRequest:
    """All faults in one answer, without the values, which may be anything."""
    found = [_fault(error, where) for error in errors[:MOST_FAULTS_TOLD]]
    answer = found[0]
    answer.field_errors = [error for fault in found for error in fault.field_errors]
    answer.message = "; ".join(fault.message for fault in found)
    return answer


def shortened(name: str) -> str:
    """A field's name as it may stand in an answer."""
    return name[:LONGEST_FIELD_SHOWN]


def _fault(error: ErrorDetails, where: str) -> InvalidRequest:
    field = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return unknown_field(field, FIELDS, where)
    return InvalidRequest(
        f"the field '{field}': {error['msg']}", field=field, kind=error["type"], where=where
    )
