"""The language model: one question, one answer, in bounded time. By the clients that mst itself uses.

mst's own calls wait ten minutes and more, or for ever, and let no one see what failed. One object serves
one job: after the server has failed to answer, it is not asked again.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from worker.engines.mst.failures import StepFailed
from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.engines.mst.endpoint import Endpoint

log = get_logger(__name__)

PAUSE_S = 0.5  # before the second try; doubled for each one after
# Closed thoughts, then those whose beginning or end a server has kept to itself.
_THOUGHTS = [
    re.compile(pattern, re.DOTALL) for pattern in (r"<think>.*?</think>", r"\A.*</think>", r"<think>.*\Z")
]
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_FENCE = re.compile(r"^\s*```.*$", re.MULTILINE)
LONGEST_ANSWER = 20_000  # characters; no headline, summary or list of names is longer
_RETRIED = (408, 429)
_EMBEDDINGS_AT_ONCE = 100


class LanguageModelFailed(StepFailed):
    code = "language_model_failed"


@dataclass
class LanguageModel:
    """``timeout_s`` is for each try; ``retries`` come after the first. For one thread at a time.

    ``tell`` is called with the part of a call's work that is done, and may raise to stop it.
    """

    endpoint: Endpoint
    timeout_s: float
    retries: int
    tell: Callable[[float], None]
    _client: Any = field(default=None, init=False, repr=False)
    _failure: str = field(default="", init=False)

    @property
    def is_there(self) -> bool:
        return self.endpoint.provider != "none"

    def ask(self, model: str, messages: list[dict[str, str]], schema: dict[str, Any] | None = None) -> str:
        """The answer without the model's thoughts; JSON by ``schema`` where there is one.

        Raises LanguageModelFailed, also for an empty answer.
        """
        asked = self._ask_ollama if self.endpoint.provider == "ollama" else self._ask_openai
        answer = self._tried("language model", lambda: asked(model, messages, schema))
        text = cleaned(answer)
        if not text:
            raise LanguageModelFailed("the language model gave an empty answer")
        return text

    def embed(self, model: str, texts: list[str]) -> list[list[float]]:
        """A vector for each text. Raises LanguageModelFailed."""
        asked = self._embed_by_ollama if self.endpoint.provider == "ollama" else self._embed_by_openai
        vectors: list[list[float]] = []
        for first in range(0, len(texts), _EMBEDDINGS_AT_ONCE):
            self.tell(first / len(texts))
            some = texts[first : first + _EMBEDDINGS_AT_ONCE]
            found = self._tried("embeddings' server", partial(asked, model, some))
            if len(found) != len(some):
                raise LanguageModelFailed("the embeddings' server gave another number of vectors than texts")
            vectors += found
        return vectors

    def _ask_openai(self, model: str, messages: list[dict[str, str]], schema: dict[str, Any] | None) -> str:
        extra = {"response_format": _strict(schema)} if schema else {}
        answer = self._connected().chat.completions.create(model=model, messages=messages, **extra)
        return _text(answer.choices[0].message.content)

    def _ask_ollama(self, model: str, messages: list[dict[str, str]], schema: dict[str, Any] | None) -> str:
        answer = self._connected().chat(model=model, messages=messages, format=schema)
        return _text(answer.message.content)

    def _embed_by_openai(self, model: str, texts: list[str]) -> list[list[float]]:
        answer = self._connected().embeddings.create(model=model, input=texts, encoding_format="float")
        return [list(one.embedding) for one in sorted(answer.data, key=lambda one: one.index)]

    def _embed_by_ollama(self, model: str, texts: list[str]) -> list[list[float]]:
        return [list(vector) for vector in self._connected().embed(model=model, input=texts)["embeddings"]]

    def _connected(self) -> Any:
        if self._client is None:
            self._client = _client_of(self.endpoint, self.timeout_s)
        return self._client

    def _tried(self, who: str, call: Callable[[], Any]) -> Any:
        if self._failure:
            raise LanguageModelFailed(self._failure)
        for left in range(self.retries, -1, -1):
            try:
                return call()
            except Exception as exc:  # the two clients raise errors of several trees
                # Without the error's text, which may have a key or an address in it.
                reason = f"the {who} failed: {_named(exc)}"
                log.warning("language_model_failed", error=type(exc).__name__, tries_left=left)
                if not _is_passing(exc):
                    raise LanguageModelFailed(reason) from exc
                if not left:
                    self._failure = reason
                    raise LanguageModelFailed(reason) from exc
                time.sleep(PAUSE_S * 2 ** (self.retries - left))
                self.tell(0.0)
        raise AssertionError("unreachable")


def cleaned(answer: str) -> str:
    """The answer as text that can be kept: no thoughts, no fences, nothing that UTF-8 can't hold."""
    for thoughts in _THOUGHTS:
        answer = thoughts.sub("", answer)
    answer = _FENCE.sub("", _CONTROLS.sub("", answer.encode(errors="ignore").decode()))
    return answer.strip()[:LONGEST_ANSWER].strip()


def _text(content: object) -> str:
    """The content of a message: text, or parts of text, as some servers send it."""
    if isinstance(content, list):
        return "".join(_text(part.get("text") if isinstance(part, dict) else part) for part in content)
    return content if isinstance(content, str) else ""


def _client_of(endpoint: Endpoint, timeout_s: float) -> Any:
    # Both clients log addresses, and what was sent.
    for name in ("openai", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if endpoint.provider == "ollama":
        import ollama  # noqa: PLC0415  only the worker's child has it

        return ollama.Client(host=endpoint.url, timeout=timeout_s)
    import openai  # noqa: PLC0415  as above

    # Tries are counted here, for both providers alike.
    return openai.OpenAI(base_url=endpoint.url, api_key=endpoint.key, timeout=timeout_s, max_retries=0)


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's servers want objects closed; Pydantic leaves them open."""
    closed = {**schema, "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": closed, "strict": True}}


def _status(exc: BaseException) -> int:
    status = getattr(exc, "status_code", None)
    return status if isinstance(status, int) else -1


def _named(exc: BaseException) -> str:
    status = _status(exc)
    return f"{type(exc).__name__} {status}" if status > 0 else type(exc).__name__


def _is_passing(exc: BaseException) -> bool:
    """Whether another try may do better: the server is away, slow or busy, or it broke."""
    status = _status(exc)
    return status < 400 or status >= 500 or status in _RETRIED  # noqa: PLR2004  HTTP's classes
