"""Whether the language model's server answers, where jobs may not be done without it (LLM_REQUIRED).

The worker's parent asks, every few seconds, in a thread of its own: while there is no answer the worker
reads no entry, and says why in /health/ready.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from worker.engines.choice import choose
from worker.engines.mst.config import is_installed
from worker.engines.mst.endpoint import Endpoint
from worker.errors import EngineUnavailable
from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.settings import Settings

log = get_logger(__name__)

ASK_EVERY_S = 10.0
ASK_TIMEOUT_S = 5.0


class LanguageModelWatch:
    """``ask`` gives a problem's reason, or None; it may block."""

    def __init__(self, ask: Callable[[], str | None], every_s: float = ASK_EVERY_S) -> None:
        self._ask = ask
        self._every_s = every_s
        self._problem: str | None = "the language model's server has not been asked yet"

    def start(self) -> None:
        threading.Thread(target=self._run, name="llm-watch", daemon=True).start()

    def problem(self) -> str | None:
        return self._problem

    def is_up(self) -> bool:
        return self._problem is None

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._look()
            pause.wait(self._every_s)

    def _look(self) -> None:
        try:
            found = self._ask()
        except Exception as exc:  # the loop's top: without this thread the last answer would hold for ever
            log.exception("language_model_not_asked")
            found = f"the language model's server could not be asked ({type(exc).__name__})"
        if found != self._problem:
            log.info("language_model_looked_at", problem=found)
        self._problem = found


def required_watch(settings: Settings) -> LanguageModelWatch | None:
    """The watch that the settings want; None where jobs go on without a language model.

    Raises EngineUnavailable where one is required and none is configured.
    """
    may_be_asked = "mst" in settings.job_engines and is_installed()
    if not settings.llm_required or not (choose(settings).name == "mst" or may_be_asked):
        return None
    endpoint = Endpoint.from_settings(settings)
    if endpoint.provider == "none":
        raise EngineUnavailable(
            "LLM_REQUIRED is set, but no language model is: set OLLAMA_HOST, or OPENAI_BASE_URL"
        )
    return LanguageModelWatch(lambda: endpoint.problem(ASK_TIMEOUT_S))
