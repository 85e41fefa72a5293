"""What a client asks of its job beside the recording; part of the job's record."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MOST_TOPICS = 100


class JobOptions(BaseModel):
    """An engine leaves aside what it has no step for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    language: str | None = Field(
        None,
        pattern="^[a-z]{2,3}$",
        description="ISO 639 code of the language spoken, such as de; by default it is detected.",
    )
    max_topics: int = Field(10, ge=1, le=MOST_TOPICS, description="Topics found at most.")
    diarize: bool = Field(True, description="Tell speakers apart, where the engine can.")
    topics: bool = Field(True, description="Part the transcript into topics, where the engine can.")
    engine: str | None = Field(
        None, max_length=32, description="Engine, of those that the operator offers; by default the server's."
    )
