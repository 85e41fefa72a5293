"""The engines by name. Importing this imports no engine; ``create`` imports only the one it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.engines.protocol import Engine
    from worker.settings import Settings


def create(name: str, settings: Settings) -> Engine:
    """Make the engine called ``name``, unprepared.

    Raises EngineUnavailable for an unknown name or an engine whose packages are not installed.
    """
    constructor = _CONSTRUCTORS.get(name)
    if constructor is None:
        raise EngineUnavailable(f"no engine is called {name!r}: set ENGINE to one of {', '.join(known())}")
    try:
        return constructor(settings)
    except ModuleNotFoundError as exc:
        raise EngineUnavailable(
            f"engine {name!r} needs the package {exc.name!r}: install the extra 'worker'"
        ) from exc


def known() -> list[str]:
    return sorted(_CONSTRUCTORS)


def _whisper(settings: Settings) -> Engine:
    from worker.engines.whisper import WhisperEngine  # noqa: PLC0415  loads numpy: only when it is chosen

    return WhisperEngine(model=settings.whisper_model, device=settings.device)


def _simulated(settings: Settings) -> Engine:
    from worker.engines.simulated import SimulatedEngine  # noqa: PLC0415  only when it is chosen

    return SimulatedEngine.from_script(settings.simulated_script)


def _mst(settings: Settings) -> Engine:
    from worker.engines.mst import MstEngine  # noqa: PLC0415  only when it is chosen

    return MstEngine.from_settings(settings)


_CONSTRUCTORS: dict[str, Callable[[Settings], Engine]] = {
    "mst": _mst,
    "whisper": _whisper,
    "simulated": _simulated,
}
