"""Where the language model is, and whether it answers. Standard library only: the worker's parent asks."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from worker.settings import Settings

Provider = Literal["openai", "ollama", "none"]
OLLAMA_PORT = 11434
KEYLESS = "not-needed"  # servers without keys want a header all the same


@dataclass(frozen=True)
class Endpoint:
    """``url`` is Ollama's root or OpenAI's base (".../v1"); it may carry a password, so it is never shown."""

    provider: Provider = "none"
    url: str = field(default="", repr=False)
    key: str = field(default="", repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> Endpoint:
        """LLM_PROVIDER, or else that of the address that is set, Ollama's first."""
        provider = settings.llm_provider or _implied(settings)
        if provider == "ollama":
            return cls(provider, _ollama_url(settings.ollama_host))
        if provider == "openai":
            key = settings.openai_api_key
            return cls(provider, settings.openai_base_url, key.get_secret_value() if key else KEYLESS)
        return cls()

    def problem(self, timeout_s: float) -> str | None:
        """Why the server does not answer, without its address; None where it does, or where there is none.

        Asks for the list of models. Blocks for ``timeout_s`` at most in each step of the connection.
        """
        if self.provider == "none":
            return None
        try:
            self._list_models(timeout_s)
        except urllib.error.HTTPError as exc:
            return f"the language model's server ({self.provider}) answered {exc.code}"
        except (OSError, http.client.HTTPException, ValueError) as exc:
            reason = getattr(exc, "reason", exc)
            return f"the language model's server ({self.provider}) does not answer ({type(reason).__name__})"
        return None

    def _list_models(self, timeout_s: float) -> None:
        path = "/api/tags" if self.provider == "ollama" else "/models"
        parts = urlsplit(self.url)
        login, _, place = parts.netloc.rpartition("@")
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        if login:  # as the clients send it; urllib would look for a host of that name
            headers = {"Authorization": "Basic " + b64encode(unquote(login).encode()).decode()}
        address = urlunsplit(parts._replace(netloc=place)).rstrip("/") + path
        request = urllib.request.Request(address, headers=headers)  # noqa: S310  the operator's own address
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310  as above  # nosec B310
            json.load(answer)


def _implied(settings: Settings) -> Provider:
    if settings.ollama_host:
        return "ollama"
    return "openai" if settings.openai_base_url else "none"


def _ollama_url(host: str) -> str:
    """Ollama's variable may leave out scheme, host and port."""
    if "://" in host:
        return host
    parts = urlsplit(f"//{host}")
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "127.0.0.1"
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"http://{login}{name}:{parts.port or OLLAMA_PORT}{parts.path}"
