"""A client that really calls an Ollama server; the module's own has the host of the time of its import."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import httpx
from standin_orders import asked


class ResponseError(Exception):
    def __init__(self, error: str, status_code: int = -1) -> None:
        super().__init__(error)
        self.error = error
        self.status_code = status_code


def _host(host: str | None) -> str:
    return host or os.environ.get("OLLAMA_HOST") or "http://127.0.0.1:11434"


class Client:
    def __init__(self, host: str | None = None, **options: Any) -> None:
        self._url, self._timeout = _host(host), options.get("timeout")

    def chat(self, model: str = "", messages: Any = None, *, format: Any = None, **extra: Any) -> Any:  # noqa: A002  ollama's name
        asked("parse" if format else "chat", model=model)
        body = {"model": model, "messages": messages, "format": format, "stream": False, **extra}
        answer = self._call("POST", "/api/chat", body)
        return SimpleNamespace(message=SimpleNamespace(**answer["message"]))

    def embed(self, model: str = "", input: Any = "", **_: Any) -> Any:  # noqa: A002  ollama's name
        asked("embed", texts=len(input))
        return self._call("POST", "/api/embed", {"model": model, "input": input})

    def list(self) -> Any:
        return self._call("GET", "/api/tags", None)

    def close(self) -> None:
        pass

    def _call(self, method: str, path: str, body: Any) -> Any:
        try:
            return _checked(httpx.request(method, self._url + path, json=body, timeout=self._timeout))
        except httpx.ConnectError as exc:
            raise ConnectionError(_AWAY) from exc


class AsyncClient:
    """Of the loop of its first call, as a pool of connections is."""

    def __init__(self, host: str | None = None, **options: Any) -> None:
        self._url, self._timeout = _host(host), options.get("timeout")
        self._loop: Any = None

    async def embed(self, model: str = "", input: Any = "", **_: Any) -> Any:  # noqa: A002  ollama's name
        asked("embed", texts=len(input))
        self._loop = self._loop or asyncio.get_running_loop()
        if self._loop is not asyncio.get_running_loop():
            raise RuntimeError("Event loop is closed")
        async with httpx.AsyncClient(base_url=self._url, timeout=self._timeout) as http:
            try:
                return _checked(await http.post("/api/embed", json={"model": model, "input": input}))
            except httpx.ConnectError as exc:
                raise ConnectionError(_AWAY) from exc

    async def close(self) -> None:
        pass


_AWAY = "Failed to connect to Ollama. Please check that Ollama is downloaded, running and accessible."


def _checked(answer: httpx.Response) -> Any:
    if answer.status_code >= 400:
        raise ResponseError(answer.text, answer.status_code)
    return answer.json()


_client = Client()
chat = _client.chat
