"""What both clients give to httpx, and what they make of its errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import httpx

from gateway.client.errors import BadAnswer

if TYPE_CHECKING:
    from gateway.client.requests import Call

CONNECT_WITHIN_S = 10.0
# Shorter than the gateway keeps it, so that no request meets a connection that is being closed.
KEEP_ALIVE = httpx.Limits(keepalive_expiry=5.0)
NO_KEEP_ALIVE = httpx.Limits(max_keepalive_connections=0)  # of uploads (gateway.client.upload.Line)


class Options(TypedDict):
    base_url: httpx.URL
    headers: dict[str, str]


def options_of(base_url: str, api_key: str | None) -> Options:
    """Raises ValueError for a URL or a key that can't be one; the key is in no message."""
    key = {} if api_key is None else {"Authorization": f"Bearer {checked_key(api_key)}"}
    return Options(base_url=checked_url(base_url), headers={"User-Agent": "transcription-client", **key})


def checked_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as exc:
        raise ValueError(f"base_url is no URL: {exc}") from exc
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("base_url must be the service's address, such as http://127.0.0.1:8000")
    return url


def checked_key(api_key: str) -> str:
    if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ValueError("the API key is empty, or has characters that no key has (spaces, line ends)")
    return api_key


def arguments_of(call: Call, timeout_s: float) -> dict[str, Any]:
    """Of httpx's ``request``; the upload's content comes beside. Time limits are of silence."""
    connect_s = min(timeout_s, CONNECT_WITHIN_S)
    return {
        "method": call.method,
        "url": call.path,
        "params": call.params,
        "headers": call.headers,
        "json": call.json,
        "timeout": httpx.Timeout(timeout_s, connect=connect_s, read=call.read_s or timeout_s),
    }


def outcome_of(error: httpx.RequestError) -> httpx.TransportError:
    """No answer, which may come yet; or raise what no repetition changes."""
    if isinstance(error, httpx.TransportError) and not isinstance(error, httpx.LocalProtocolError):
        return error
    raise BadAnswer(f"request or answer can't be read: {error}") from error
