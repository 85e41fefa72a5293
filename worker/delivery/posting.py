"""The real way to send a webhook: httpx, to addresses that the policy permits and no others.

The name is resolved and checked here, and the connection goes to the very address that was checked, so a
name that changes in between gains nothing. Redirects are not followed, proxies of the environment not used,
and of the answer nothing but its head is read.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

import httpx

from worker.delivery.webhook_rules import Outcome
from worker.errors import RequestError, UrlForbidden
from worker.sources.addresses import checked_addresses, literal_address
from worker.sources.urls import checked_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from worker.delivery.webhook import Webhook
    from worker.sources.addresses import Address, AddressPolicy
    from worker.sources.urls import ParsedUrl

USER_AGENT = "transcription-service-webhook/1"
_MOST_ADDRESSES = 3


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, by the system's resolver, as texts. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class GuardedPost:
    """A ``Post`` for Deliverer. Safe in several event loops and threads."""

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        resolve: Callable[[str, int], Awaitable[list[str]]] = resolve,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        self._resolve = resolve
        self._trust = trust or ssl.create_default_context()

    async def __call__(self, webhook: Webhook) -> Outcome:
        try:
            url = checked_url(webhook.url, self._policy)
            addresses = await self._addresses(url)
        except (RequestError, UrlForbidden):
            return Outcome(error="address_forbidden", lasting=True)
        except OSError:
            return Outcome(error="name_unknown")
        return await self._send(webhook, url, addresses)

    async def _addresses(self, url: ParsedUrl) -> Sequence[Address]:
        literal = literal_address(url.host)
        found = [str(literal)] if literal else await self._resolve(url.host, url.port)
        return checked_addresses(url.host, found, self._policy)

    async def _send(self, webhook: Webhook, url: ParsedUrl, addresses: Sequence[Address]) -> Outcome:
        """Try the addresses until one takes the connection."""
        outcome = Outcome(error="name_unknown")
        async with httpx.AsyncClient(verify=self._trust, trust_env=False, timeout=None) as client:  # noqa: S113  Deliverer limits the whole  # nosec B113
            for address in addresses[:_MOST_ADDRESSES]:
                try:
                    return await _answer(client, _request(client, webhook, url, address))
                except httpx.TransportError as exc:
                    outcome = Outcome(error=_kind(exc))
                    if not isinstance(exc, httpx.ConnectError):
                        break
        return outcome


def _request(client: httpx.AsyncClient, webhook: Webhook, url: ParsedUrl, address: Address) -> httpx.Request:
    """To the address by number; its name goes where the receiver and its certificate look for it."""
    host = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004  IP's version
    headers = {"host": url.authority, "user-agent": USER_AGENT, **webhook.headers}
    return client.build_request(
        "POST",
        f"{url.scheme}://{host}:{url.port}{url.target}",
        headers=headers,
        content=webhook.body,
        extensions={"sni_hostname": url.host},
    )


async def _answer(client: httpx.AsyncClient, request: httpx.Request) -> Outcome:
    answer = await client.send(request, stream=True, follow_redirects=False)
    await answer.aclose()
    return Outcome(status=answer.status_code, retry_after=answer.headers.get("retry-after", ""))


def _kind(exc: httpx.TransportError) -> str:
    if isinstance(exc, httpx.ConnectError):
        return "tls" if _is_tls(exc) else "not_connected"
    if isinstance(exc, httpx.ProtocolError):
        return "no_http_answer"
    return "disconnected"


def _is_tls(exc: BaseException) -> bool:
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
