"""Which engine does a job, and why. Light: imports no engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.errors import EngineUnavailable

if TYPE_CHECKING:
    from worker.settings import Settings


@dataclass(frozen=True)
class Choice:
    name: str
    reason: str


def choose(settings: Settings, wanted: str | None = None) -> Choice:
    """The engine for a job that asks for ``wanted``, or for none.

    Raises EngineUnavailable where it asks for one that this worker does not offer.
    """
    if wanted is not None:
        if wanted not in settings.job_engines:
            raise EngineUnavailable(f"this worker does not offer the engine {wanted!r}: see ENGINES_ALLOWED")
        return Choice(wanted, "the job asked for it")
    return Choice(settings.engine, f"ENGINE={settings.engine}")
