"""Which engine does a job, and why. Light: imports no engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.engines.mst.config import is_installed, unconfigured
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
    if settings.engine == "auto":
        return _best(settings)
    return Choice(settings.engine, f"ENGINE={settings.engine}")


def _best(settings: Settings) -> Choice:
    """mst, unless it can't be; a fault of an installed one is for prepare to tell, not to be passed over."""
    if not is_installed():
        return Choice("whisper", "ENGINE=auto: multistep-transcriber is not installed")
    lack = unconfigured(settings)
    if lack is not None:
        return Choice("whisper", f"ENGINE=auto: {lack}")
    return Choice("mst", "ENGINE=auto: multistep-transcriber is installed and configured")
