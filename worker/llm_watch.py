"""Whether the language model's server answers, where jobs may not be done without it (LLM_REQUIRED)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.engines.choice import choose
from worker.engines.mst.config import is_installed
from worker.engines.mst.endpoint import Endpoint
from worker.errors import EngineUnavailable
from worker.hindrance import HindranceWatch

if TYPE_CHECKING:
    from worker.settings import Settings

ASK_TIMEOUT_S = 5.0


def required_watch(settings: Settings) -> HindranceWatch | None:
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
    return HindranceWatch("the language model's server", lambda: endpoint.problem(ASK_TIMEOUT_S))
