"""The job record: one Redis hash, as a typed value."""

from __future__ import annotations

import json
import uuid
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, Json, field_validator, model_validator

from worker.jobs.options import JobOptions
from worker.jobs.priority import Priority, waiting_score
from worker.jobs.states import JobState

ANONYMOUS = "anonymous"  # owner of what is submitted while no API keys are set

# What a job's record asks of whoever works on it. One more whenever a worker that does not know of a change
# would do the job wrongly; not for a field that it may leave aside. Who only looks on (gateway, sweeper)
# reads every format: the states, their moves and the fields of this release stay as they are.
FORMAT = 1


def owner_of(record: JobRecord) -> str:
    """Whose job it is, as the part of an object's key that keeps owners apart."""
    return record.owner


def new_task_id() -> str:
    """A random (version 4) UUID: not guessable, and a safe name for a folder."""
    return str(uuid.uuid4())


class JobRecord(BaseModel):
    """A job's metadata. Times are Unix seconds (UTC) by the writer's clock; a missing field was never set.

    ``lease`` names the delivery (``<entry id>@<stream>``) whose attempt owns the job, ``result`` the file
    in the job's folder that holds its one result: also before the job's end, while that is being delivered.
    Once it is in the client's bucket, ``s3_urls`` tell where, and ``result`` is empty.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    format: int = 1  # as what was accepted before formats had numbers
    state: JobState
    owner: str = ANONYMOUS
    source: str = "upload"  # or "url"
    # It may hold credentials: no repr shows it and no dump but the hash holds it.
    url: str = Field("", repr=False, exclude=True)
    file_name: str = ""
    size_bytes: int = 0
    created_at: float
    priority: Priority = Priority.NORMAL
    options: JobOptions = Field(default_factory=JobOptions)
    idempotency: str = ""  # the Redis key that remembers it, where the client gave one
    s3_path: str = ""
    webhook_url: str = Field("", repr=False, exclude=True)  # as url
    request_id: str = ""  # of the request that made it, for the logs
    traceparent: str = ""  # of the span that its attempts' spans belong under, where traces are made

    attempt: int = 0
    lease: str = ""
    worker: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    expires_at: float | None = None

    step: str = ""
    step_number: int = 0
    step_of: int = 0
    fraction: float = Field(0.0, ge=0, le=1)
    eta_s: float | None = None
    speed_x: float | None = None  # seconds of the recording for each second of work
    deadline: float | None = None  # when the attempt's engine has run long enough
    moved_at: float | None = None  # when the attempt last got on, whatever its engine asked meanwhile

    result: str = ""
    stored_bytes: int = 0  # what it holds in the cache and its owner is charged with
    s3_urls: Json[list[str]] = Field(default_factory=list)
    engine: str = ""
    model: str = ""
    duration_s: float | None = None
    warnings: Json[list[Any]] = Field(default_factory=list)
    partial: bool = False
    error_code: str = ""
    error_message: str = ""
    error_step: str = ""

    @property
    def waiting_score(self) -> float:
        return waiting_score(self.priority, self.created_at)

    @model_validator(mode="before")
    @classmethod
    def _empty_means_unset(cls, fields: dict[str, Any]) -> dict[str, Any]:
        # A hash field can be overwritten inside a script, but not typed: "" stands for None.
        return {name: value for name, value in fields.items() if value != ""}

    @field_validator("options", mode="before")
    @classmethod
    def _read_options(cls, value: object) -> object:
        return json.loads(value) if isinstance(value, str) else value

    def to_hash(self) -> dict[str, str]:
        """What ``accept`` stores: the fields that were set, as strings."""
        urls = {"url": self.url, "webhook_url": self.webhook_url}
        fields = self.model_dump(exclude_unset=True) | {name: url for name, url in urls.items() if url}
        return {
            name: json.dumps(value) if isinstance(value, dict) else str(value)
            for name, value in fields.items()
        }
