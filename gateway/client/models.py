"""What the API answers, as frozen records. Times are aware, in UTC; a field that is unknown is None."""

# Annotations here are read at run time, by gateway.client.decoding.
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class State(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return self in {State.COMPLETED, State.FAILED}


@dataclass(frozen=True)
class Job:
    """An accepted job: it will end in exactly one result or one error."""

    task_id: str
    status: State


@dataclass(frozen=True)
class Progress:
    """Where a running job is: step ``number`` of ``of``; ``fraction`` of the whole work, from 0 to 1."""

    step: str
    number: int
    of: int
    fraction: float
    eta_s: float | None


@dataclass(frozen=True)
class JobFailure:
    code: str
    message: str
    step: str | None


@dataclass(frozen=True)
class ResultWarning:
    """Something the result lacks, and why."""

    code: str
    step: str
    reason: str


@dataclass(frozen=True)
class WebhookTry:
    """``error`` where there was no answer, else the answer's ``status``."""

    at: datetime
    status: int | None
    error: str | None
    ms: int


@dataclass(frozen=True)
class WebhookDelivery:
    event: str
    state: str
    tries: int
    next_at: datetime | None
    log: tuple[WebhookTry, ...]


@dataclass(frozen=True)
class JobStatus:
    """A job as it was when the service answered.

    ``progress`` is there only while processing, ``position`` (from 1) only while pending, ``error`` only of
    a failed job. ``attempt`` is 0 before the first. ``partial``: see Document. ``s3_urls``: where the result
    was delivered, instead of ``download``.
    """

    task_id: str
    status: State
    progress: Progress | None
    position: int | None
    eta_s: float | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None
    attempt: int
    error: JobFailure | None
    warnings: tuple[ResultWarning, ...] = ()
    partial: bool = False
    s3_urls: tuple[str, ...] = ()
    webhooks: tuple[WebhookDelivery, ...] = ()


@dataclass(frozen=True)
class JobPage:
    """Some of the jobs; ``next_cursor`` leads to the next ones, None from the last page."""

    jobs: tuple[JobStatus, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class Backlog:
    waiting: int
    waiting_by_priority: dict[str, int]
    processing: int
    oldest_waiting_age_s: float | None


@dataclass(frozen=True)
class Segment:
    """A sentence, by one speaker; seconds from the recording's start. ``topic`` is an index into topics."""

    start: float
    end: float
    transcript: str
    speaker_name: str | None
    topic: int | None


@dataclass(frozen=True)
class Topic:
    headline: str
    summary: str


@dataclass(frozen=True)
class Entity:
    label: str
    text: str


@dataclass(frozen=True)
class Document:
    """One job's result, version 1. ``partial``: a step failed, and the transcript was kept without it."""

    task_id: str
    engine: str
    model: str
    language: str | None
    duration_s: float
    segments: tuple[Segment, ...]
    version: int = 1
    engine_reason: str = ""
    topics: tuple[Topic, ...] = ()
    entities: tuple[Entity, ...] = ()
    warnings: tuple[ResultWarning, ...] = ()
    partial: bool = False
