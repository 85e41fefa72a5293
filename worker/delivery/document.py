"""The result document: what is stored, what ``fmt=json`` answers, and the schema that is published.

Segments keep multistep-transcriber's field names (start, end, transcript, speaker_name, topic).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from worker.engines.protocol import Transcript


class Segment(BaseModel):
    """A sentence, by one speaker."""

    start: float = Field(ge=0, description="Seconds from the recording's start.")
    end: float = Field(ge=0, description="Seconds from the recording's start; greater than start.")
    transcript: str
    speaker_name: str | None = Field(None, description="Null where the engine does not tell speakers apart.")
    topic: int | None = Field(None, ge=0, description="Index into topics; null without topics.")


class Topic(BaseModel):
    headline: str
    summary: str


class Entity(BaseModel):
    label: str = Field(description="Kind of the entity, such as Person or Locations.")
    text: str


class ResultWarning(BaseModel):
    """Something the result lacks, and why."""

    code: str
    step: str
    reason: str


class Document(BaseModel):
    """One job's result."""

    model_config = ConfigDict(json_schema_extra={"$id": "result-document"})

    version: int = Field(1, description="Version of this schema; grows when a field changes its meaning.")
    task_id: str
    engine: str
    engine_reason: str = Field("", description="Why this engine was taken.")
    model: str
    language: str | None = Field(
        None, description="ISO 639-1 code; null where there was no speech to tell by."
    )
    duration_s: float = Field(ge=0)
    segments: list[Segment]
    topics: list[Topic] = []
    entities: list[Entity] = []
    warnings: list[ResultWarning] = []
    partial: bool = Field(
        False, description="True where a step failed and the transcript was kept without it."
    )


def to_document(task_id: str, transcript: Transcript) -> Document:
    return Document.model_validate({"task_id": task_id, **dataclasses.asdict(transcript)})
