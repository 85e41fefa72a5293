"""Segment and Annotation, as far as speaker turns need them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, order=True)
class Segment:
    start: float = 0.0
    end: float = 0.0

    @property
    def duration(self) -> float:
        return max(0.0, self.end - self.start)


@dataclass
class Annotation:
    uri: str | None = None
    modality: str | None = None
    _turns: list[tuple[Segment, str, str]] = field(default_factory=list)

    def __setitem__(self, key: Any, label: str) -> None:
        segment, track = key
        self._turns.append((segment, track, label))
        self._turns.sort(key=lambda turn: (turn[0], turn[1]))

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[tuple[Segment, str]]:
        """Pairs, as pyannote.core has them since 6."""
        return ((segment, label) for segment, _, label in self._turns)

    def itertracks(self, yield_label: bool = False) -> Iterator[tuple[Any, ...]]:
        for segment, track, label in self._turns:
            yield (segment, track, label) if yield_label else (segment, track)

    def labels(self) -> list[str]:
        return sorted({label for _, _, label in self._turns})
