"""What each finished window of the engine ``whisper`` gave, kept for the next attempt.

A window is whole in its checkpoint: its end, the language known by then, and its phrases.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from worker.engines.sentences import Phrase
from worker.engines.whisper_model import content_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.engines.protocol import Checkpoints

DECODING_REVISION = 1  # grows when the same recording gets other phrases from this code


@dataclass(frozen=True)
class Finished:
    """The windows from the recording's start to ``until_s``, in seconds, that need not be done again."""

    count: int = 0
    until_s: float = 0.0
    language: str | None = None
    phrases: tuple[Phrase, ...] = ()


def identity(engine: str, model: str, language: str | None, window_s: float) -> dict[str, object]:
    """What a window's phrases depend on. Not the batches: a smaller one gives the same words."""
    versions = {name: version(name) for name in ("faster-whisper", "ctranslate2")}
    return {
        "engine": engine,
        "model": content_id(model),
        "language": language,
        "window_s": window_s,
        "versions": {**versions, "decoding": DECODING_REVISION},
    }


def finished(checkpoints: Checkpoints) -> Finished:
    """The windows that are kept without a gap."""
    so_far = Finished()
    while (kept := checkpoints.load(_name(so_far.count))) is not None:
        phrases = [Phrase(*values) for values in kept["phrases"]]
        so_far = Finished(so_far.count + 1, kept["until_s"], kept["language"], (*so_far.phrases, *phrases))
    return so_far


def keep(
    checkpoints: Checkpoints, window: int, until_s: float, language: str | None, phrases: Sequence[Phrase]
) -> None:
    value = {"until_s": until_s, "language": language, "phrases": [astuple(one) for one in phrases]}
    checkpoints.save(_name(window), value)


def _name(window: int) -> str:
    return f"window-{window:06d}"
