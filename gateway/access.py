"""Who may do what: the caller of a request, and the door to what only an operator may see.

Every room but health stands behind ``identify`` (gateway.app), whether its endpoints ask for the caller or
not. The caller is known before a body is read.
"""

import math
import time
from collections.abc import Collection
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers

from gateway.errors import Forbidden, TooManyFailures, Unauthorized
from gateway.keys import EVERYONE, Caller, Role
from gateway.services import ServicesOf
from worker.logs import get_logger

log = get_logger(__name__)

_bearer = HTTPBearer(auto_error=False, description="An API key, where the operator has set any.")
_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same, in a header of its own.")


async def identify(
    request: Request,
    services: ServicesOf,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    header: Annotated[str | None, Depends(_header)],
) -> Caller:
    """Whose request this is.

    Raises:
        Forbidden: without keys, a browser sent it for a page of another origin.
        Unauthorized, TooManyFailures: the latter for right keys, too, or it would tell them from wrong ones.
    """
    if services.keys.is_open:
        refuse_foreign_page(request.headers, services.settings.allowed_origins)
        return EVERYONE
    secret = bearer.credentials if bearer else header
    if not secret:
        raise Unauthorized("send your API key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
    address, now = request.client.host if request.client else "", time.monotonic()
    if wait_s := services.failures.wait_s(address, now):
        raise TooManyFailures(
            "too many wrong API keys came from this address: try again later",
            retry_after_s=math.ceil(wait_s),
        )
    caller = services.keys.caller_of(secret)
    if caller is None:
        services.failures.count(address, now)
        log.warning("api_key_refused", client=address)
        raise Unauthorized("this API key is not known")
    request.state.caller = caller.name
    return caller


def refuse_foreign_page(headers: Headers, allowed: Collection[str]) -> None:
    """Keep pages of other origins from using the visitor's own open service.

    A browser sends an upload for any page, and only keeps the answer from it; with keys it would lack one.
    """
    origin = headers.get("origin")
    is_own = origin is None or origin.partition("://")[2] == headers.get("host")
    if not is_own and not {origin, "*"} & {*allowed}:
        raise Forbidden("pages of this origin may not use the API: see CORS_ORIGINS")


CallerOf = Annotated[Caller, Depends(identify)]


async def require_operator(caller: CallerOf) -> Caller:
    """Raises Forbidden."""
    if caller.role is not Role.OPERATOR:
        raise Forbidden("this needs a key with the operator's role")
    return caller


OperatorOf = Annotated[Caller, Depends(require_operator)]
