"""The steps of a job in order, and how much of its time each is expected to take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.engines.mst.config import MstConfig
    from worker.engines.protocol import Options

TRANSCRIBE = "transcribe"
SENTENCES = "sentences"
ENTITIES = "entities"
CORRECT = "correct"
DIARIZE = "diarize"
INTRODUCTIONS = "introductions"
SPEAKERS = "speakers"
TOPICS = "topics"
HEADLINES = "headlines"
SUMMARIES = "summaries"

# Shares of the whole, from runs of an hour of speech on a CPU (docs/engine-mst.md), with diarization by its
# makers' figures for a GPU. They only steer how the fraction moves.
_SHARES = {
    TRANSCRIBE: 0.42,
    SENTENCES: 0.01,
    ENTITIES: 0.12,
    CORRECT: 0.03,
    DIARIZE: 0.28,
    INTRODUCTIONS: 0.02,
    SPEAKERS: 0.01,
    TOPICS: 0.03,
    HEADLINES: 0.04,
    SUMMARIES: 0.04,
}
_OF_SPEAKERS = (DIARIZE, INTRODUCTIONS, SPEAKERS)
_OF_TOPICS = (TOPICS, HEADLINES, SUMMARIES)


@dataclass(frozen=True)
class Plan:
    steps: tuple[str, ...]

    @classmethod
    def of(cls, config: MstConfig, options: Options) -> Plan:
        left_out: tuple[str, ...] = ()
        if not (options.diarize and config.has_diarization):
            left_out += _OF_SPEAKERS
        if not options.topics:
            left_out += _OF_TOPICS
        return cls(tuple(step for step in _SHARES if step not in left_out))

    def __contains__(self, step: str) -> bool:
        return step in self.steps

    def number(self, step: str) -> int:
        """From 1."""
        return self.steps.index(step) + 1

    def fraction(self, step: str, part: float) -> float:
        """Of the whole job, when ``part`` of the step is done."""
        whole = sum(_SHARES[one] for one in self.steps)
        before = sum(_SHARES[one] for one in self.steps[: self.steps.index(step)])
        return min(1.0, (before + min(1.0, max(0.0, part)) * _SHARES[step]) / whole)
