"""The engines by name. Importing this imports no engine; ``create`` imports only the one it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from worker.errors import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.engines.protocol import Engine


class EngineSettings(Protocol):
    """The settings that engines read; ``worker.settings.Settings`` has them."""

    @property
    def whisper_model(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def simulated_script(self) -> str: ...


def create(name: str, settings: EngineSettings) -> Engine:
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


def _whisper(settings: EngineSettings) -> Engine:
    from worker.engines.whisper import WhisperEngine  # noqa: PLC0415  loads numpy: only when it is chosen

    return WhisperEngine(model=settings.whisper_model, device=settings.device)


def _simulated(settings: EngineSettings) -> Engine:
    from worker.engines.simulated import SimulatedEngine  # noqa: PLC0415  only when it is chosen

    return SimulatedEngine.from_script(settings.simulated_script)


_CONSTRUCTORS: dict[str, Callable[[EngineSettings], Engine]] = {"whisper": _whisper, "simulated": _simulated}
