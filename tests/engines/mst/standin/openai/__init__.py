"""A client that really calls an OpenAI-compatible server, with the real one's errors, tries and limits."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import httpx
from standin_orders import asked


class OpenAIError(Exception):
    pass


class APIError(OpenAIError):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class APIConnectionError(APIError):
    pass


class APITimeoutError(APIConnectionError):
    pass


class APIStatusError(APIError):
    def __init__(self, message: str, status_code: int) -> None:
        super().__init__(message)
        self.status_code = status_code


class AuthenticationError(APIStatusError):
    pass


class NotFoundError(APIStatusError):
    pass


class RateLimitError(APIStatusError):
    pass


class InternalServerError(APIStatusError):
    pass


_BY_STATUS = {401: AuthenticationError, 404: NotFoundError, 429: RateLimitError}
_TIMEOUT = httpx.Timeout(600, connect=5)
_PAUSE_S = 0.05  # the real one waits ten times as long


class OpenAI:
    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: Any = _TIMEOUT,
        max_retries: int = 2,
        **_: object,
    ) -> None:
        if not api_key:
            raise OpenAIError("The api_key client option must be set, or the variable OPENAI_API_KEY")
        self._url = str(base_url).rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._timeout = timeout
        self._tries = max_retries + 1
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self._create))
        self.beta = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(parse=self._parse)))
        self.embeddings = SimpleNamespace(create=self._embed)
        self.models = SimpleNamespace(list=lambda: self._call("GET", "/models", None))

    def _create(self, *, model: str, messages: Any, **extra: Any) -> Any:
        asked("parse" if extra.get("response_format") else "chat", model=model)
        return _as_object(self._call("POST", "/chat/completions", _body(model, messages, extra)))

    def _parse(self, *, model: str, messages: Any, response_format: Any, **extra: Any) -> Any:
        asked("parse", model=model)
        schema = {"name": response_format.__name__, "schema": response_format.model_json_schema()}
        body = _body(model, messages, extra)
        body["response_format"] = {"type": "json_schema", "json_schema": {**schema, "strict": True}}
        made = _as_object(self._call("POST", "/chat/completions", body))
        for choice in made.choices:
            content = choice.message.content
            choice.message.parsed = response_format.model_validate_json(content) if content else None
        return made

    def _embed(self, *, model: str, input: Any, **extra: Any) -> Any:  # noqa: A002  openai's name
        asked("embed", texts=len(input))
        answer = self._call("POST", "/embeddings", {"model": model, "input": input, **extra})
        return SimpleNamespace(data=[SimpleNamespace(**one) for one in answer["data"]])

    def _call(self, method: str, path: str, body: Any) -> Any:
        for left in reversed(range(self._tries)):
            try:
                return self._once(method, path, body)
            except (APIConnectionError, InternalServerError, RateLimitError):
                if not left:
                    raise
                time.sleep(_PAUSE_S)
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, body: Any) -> Any:
        try:
            answer = httpx.request(
                method, self._url + path, json=body, headers=self._headers, timeout=self._timeout
            )
        except httpx.TimeoutException as exc:
            raise APITimeoutError("Request timed out.") from exc
        except httpx.HTTPError as exc:
            raise APIConnectionError("Connection error.") from exc
        if answer.status_code >= 400:
            kind = InternalServerError if answer.status_code >= 500 else _BY_STATUS.get(answer.status_code)
            raise (kind or APIStatusError)(f"Error code: {answer.status_code}", answer.status_code)
        return answer.json()


def _body(model: str, messages: Any, extra: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "messages": messages, **extra}


def _as_object(answer: Any) -> Any:
    return SimpleNamespace(
        choices=[
            SimpleNamespace(message=SimpleNamespace(content=one["message"]["content"], parsed=None))
            for one in answer["choices"]
        ]
    )
