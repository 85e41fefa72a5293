"""What a client asks of a job, beside the recording: one model for every kind of body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, ValidationError

from gateway.errors import InvalidRequest
from worker.jobs import Priority
from worker.jobs.options import JobOptions

if TYPE_CHECKING:
    from collections.abc import Collection


class JobRequest(JobOptions):
    model_config = ConfigDict(frozen=True, extra="forbid")

    priority: Priority = Field(Priority.NORMAL, description="Jobs of a higher one go first.")

    @property
    def options(self) -> JobOptions:
        return JobOptions.model_validate(self.model_dump(exclude_unset=True))


FIELDS = tuple(JobRequest.model_fields)


def job_request(fields: dict[str, Any], engines: Collection[str]) -> JobRequest:
    """The fields as a request. What was left empty counts as left out.

    Args:
        engines: Those that a job may ask for.

    Raises:
        InvalidRequest: names the first field that is wrong.
    """
    try:
        request = JobRequest.model_validate({name: value for name, value in fields.items() if value != ""})
    except ValidationError as exc:
        error = exc.errors()[0]
        field = str(error["loc"][0])
        raise InvalidRequest(f"the field '{field}': {error['msg']}", field=field, kind=error["type"]) from exc
    if request.engine is not None and request.engine not in engines:
        offered = f"offered: {', '.join(engines)}" if engines else "none may be chosen here: leave it out"
        raise InvalidRequest(
            f"the field 'engine': this server does not offer {request.engine!r}; {offered}",
            field="engine",
            kind="enum",
        )
    return request
