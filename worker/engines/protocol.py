"""What an engine takes and gives. Light: the gateway may import it.

All times are seconds from the recording's start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What one job asks for. An engine leaves aside what it has no step for."""

    language: str | None = None  # ISO 639-1; None: by the engine's own ear
    max_topics: int = 10
    diarize: bool = True
    topics: bool = True


@dataclass(frozen=True)
class Progress:
    """Where a transcription is.

    ``number`` counts steps from 1 to ``of``; ``fraction`` is of the whole work, from 0 to 1, and never
    falls. ``done_s`` of ``total_s`` are seconds of the recording, in the steps that go along it.
    """

    step: str
    number: int
    of: int
    fraction: float
    done_s: float | None = None
    total_s: float | None = None


@dataclass(frozen=True)
class Segment:
    """One sentence. ``end`` is greater than ``start``; segments come in order and do not overlap."""

    start: float
    end: float
    transcript: str
    speaker_name: str | None = None
    topic: int | None = None  # index into Transcript.topics


@dataclass(frozen=True)
class Topic:
    headline: str
    summary: str


@dataclass(frozen=True)
class Entity:
    label: str
    text: str


@dataclass(frozen=True)
class EngineWarning:
    """Something the result lacks: a stable code, the step that fell short, and why, for a reader."""

    code: str
    step: str
    reason: str


@dataclass(frozen=True)
class Transcript:
    """``language`` is None where there was no speech to tell it by.

    ``partial`` says that a step failed and the transcript was kept without it; ``engine_reason`` why this
    engine was taken.
    """

    engine: str
    model: str
    language: str | None
    duration_s: float
    segments: tuple[Segment, ...] = ()
    topics: tuple[Topic, ...] = ()
    entities: tuple[Entity, ...] = ()
    warnings: tuple[EngineWarning, ...] = ()
    partial: bool = False
    engine_reason: str = ""


class Checkpoints(Protocol):
    """What an attempt at a job leaves for the next one: results of finished steps, by name.

    A result is found again only under the identity it was saved with: the recording's content, and
    whatever ``keyed`` added.
    """

    def keyed(self, **identity: object) -> Checkpoints:
        """The same store for results that depend on ``identity`` too, such as a model and its version."""

    def load(self, name: str) -> Any | None:
        """The JSON value saved under ``name``; None where there is none, or only half of one."""

    def save(self, name: str, value: Any) -> None:
        """Keep a JSON value, whole or not at all. Where it can't be kept, the work goes on without it."""


class Engine(Protocol):
    """One engine, used by one thread; it may start threads of its own."""

    @property
    def name(self) -> str: ...

    def prepare(self) -> None:
        """Load the models; a second call does nothing.

        Raises EngineUnavailable, with the model that is missing and the variable to set; OutOfGpuMemory.
        """

    def transcribe(
        self,
        recording: Path,
        options: Options,
        report: Callable[[Progress], None],
        check: Callable[[], None],
        checkpoints: Checkpoints,
    ) -> Transcript:
        """Transcribe a 16 kHz mono 16-bit WAV.

        What an earlier attempt finished is taken from ``checkpoints``, and the result is the same.
        ``report`` and ``check`` are called by the calling thread. ``check`` is called at least every few
        seconds; it raises a BaseException to cancel, which passes through with no work left queued.
        Raises EngineFailed where the options do not fit the model or the computation failed, NotAudio
        where the recording is no such WAV, OutOfGpuMemory where the device is too full, and what prepare
        raises where the models are not loaded yet.
        """

    def relieve(self) -> bool:
        """Take smaller batches from the next transcription on; False where there are none smaller."""

    def move_to_cpu(self) -> None:
        """Compute on the CPU from the next transcription on. Raises EngineUnavailable."""
