"""Errors as RFC 9457 problem bodies: one mapping, from whatever was raised to what the client reads."""

from __future__ import annotations

from functools import singledispatch
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import redis
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gateway.errors import InvalidRequest, RangeNotSatisfiable, Unauthorized, WrongMethod
from worker.errors import BadRequest, BrokerAway, JobNotFound, ServiceError, Unavailable
from worker.logs import get_logger
from worker.patience import is_away

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5  # where the error itself knows no better
CLIENT_CLOSED_REQUEST = 499  # nginx's number; the client is gone, so only the log sees it

# What redis-py raises while the server is away, full or a replica: over, once an operator acts.
_HANDLED = (ServiceError, RequestValidationError, HTTPException, ClientDisconnect, redis.RedisError)


class FieldError(BaseModel):
    """What is wrong with one field of the request."""

    loc: list[str | int] = Field(description="Where: 'body' or 'query', then the field's name.")
    msg: str
    type: str


class Problem(BaseModel):
    """An error, as RFC 9457 lays it out."""

    type: str = Field(description="A URN that ends in the code.")
    title: str
    status: int
    detail: str = Field(description="What is wrong and what to do, for people.")
    code: str = Field(description="Stable: programs may compare it (docs/errors.md).")
    errors: list[FieldError] | None = Field(default=None, description="Field by field, with status 422 only.")
    locations: list[str] | None = Field(
        default=None, description="Where the result is instead, with s3_delivered only."
    )


def install(app: FastAPI) -> None:
    for kind in _HANDLED:
        app.add_exception_handler(kind, _answer)


async def _answer(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, ClientDisconnect):
        request.state.error_code = error_of(exc).code  # for log and metrics (gateway.middleware)
    return respond(exc)


def respond(exc: Exception) -> Response:
    """The one answer to any exception."""
    if isinstance(exc, ClientDisconnect):
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    error = error_of(exc)
    if error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request_failed", code=error.code, error=type(exc).__name__)
    body = describe(error).model_dump(exclude_none=True)
    return JSONResponse(body, error.http_status, headers=_headers(exc, error), media_type=MEDIA_TYPE)


def describe(error: ServiceError) -> Problem:
    return Problem(
        type=f"urn:transcription:error:{error.code}",
        title=error.code.replace("_", " ").capitalize(),
        status=error.http_status,
        detail=error.message,
        code=error.code,
        errors=getattr(error, "field_errors", None),
        locations=getattr(error, "locations", None),
    )


@singledispatch
def error_of(_exc: Exception | None) -> ServiceError:
    """Any exception as one of ours. An unforeseen one keeps its text to itself."""
    return ServiceError("something went wrong here; the answer's X-Request-ID finds it in the log")


@error_of.register
def _own(exc: ServiceError) -> ServiceError:
    return exc


@error_of.register
def _validation(exc: RequestValidationError) -> ServiceError:
    error = InvalidRequest("", field="", kind="")
    error.field_errors = [_plain(found) for found in exc.errors()]
    error.message = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.field_errors)
    return error


@error_of.register
def _http(exc: HTTPException) -> ServiceError:
    """What the router raises: no such path, no such method."""
    if exc.status_code == HTTPStatus.NOT_FOUND:
        return JobNotFound("there is nothing at this path; GET /docs lists what there is")
    if exc.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return WrongMethod("this path does not take this method; see the Allow header")
    return BadRequest(str(exc.detail))


@error_of.register
def _redis(exc: redis.RedisError) -> ServiceError:
    return BrokerAway("the job store does not answer: try again later") if is_away(exc) else error_of(None)


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """A validation error without the client's input, which may be anything."""
    return {"loc": list(found["loc"]), "msg": found["msg"], "type": found["type"]}


def _headers(exc: Exception, error: ServiceError) -> dict[str, str]:
    headers = dict(exc.headers or {}) if isinstance(exc, HTTPException) else {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="transcription"'
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = error.content_range
    wait_s = error.retry_after_s or (RETRY_AFTER_S if isinstance(error, Unavailable) else None)
    return headers if wait_s is None else {**headers, "Retry-After": str(wait_s)}
