"""The errors that only HTTP knows: worker.errors' tree, continued.

RequestError
├── InvalidRequest    a field is missing, unknown, given twice or out of its values
│   ├── S3NotConfigured       the job is to go to a bucket, and there is none
│   └── WebhookNotConfigured  its end is to be told, and there is nothing to sign that with
├── UnsupportedBody   the body is of a kind that this endpoint does not take
├── UploadStalled     the client stopped sending in the middle of the body
├── RangeNotSatisfiable  a Range begins behind the end of what it is taken from
├── AlreadyEnded      a job that has ended can't be cancelled
├── Unauthorized      no API key, or one that is not known
├── Forbidden         the key has not the operator's role, or the page not the right origin
├── KeyReused         the Idempotency-Key came with another request before
├── InFlight          the request with this Idempotency-Key is still being taken
├── TooManyFailures   too many wrong API keys came from this address
├── TooManyWaiting    as many of the key's jobs wait as may
├── TooMuchStored     the key's jobs hold as many bytes as they may
└── WrongMethod       the path exists, the method does not
ServiceError
└── ResultMissing     a completed job's result is not where its record says
"""

from __future__ import annotations

from typing import Any

from worker.errors import RequestError, ServiceError


class InvalidRequest(RequestError):
    """Carries ``field_errors``: what is wrong, field by field, as FastAPI words it (loc, msg, type)."""

    code = "invalid_request"
    http_status = 422

    def __init__(self, message: str, *, field: str, kind: str, where: str = "body") -> None:
        super().__init__(message)
        self.field_errors: list[dict[str, Any]] = [{"loc": [where, field], "msg": message, "type": kind}]


class S3NotConfigured(InvalidRequest):
    code = "s3_not_configured"


class WebhookNotConfigured(InvalidRequest):
    code = "webhook_not_configured"


class UnsupportedBody(RequestError):
    code = "unsupported_body"
    http_status = 415


class UploadStalled(RequestError):
    code = "upload_stalled"
    http_status = 408


class AlreadyEnded(RequestError):
    code = "already_ended"
    http_status = 409


class Unauthorized(RequestError):
    code = "unauthorized"
    http_status = 401


class Forbidden(RequestError):
    code = "forbidden"
    http_status = 403


class KeyReused(RequestError):
    code = "idempotency_key_reused"
    http_status = 422


class InFlight(RequestError):
    code = "request_in_flight"
    http_status = 409
    retryable = True


class TooManyFailures(RequestError):
    code = "too_many_failures"
    http_status = 429
    retryable = True


class TooManyWaiting(RequestError):
    code = "too_many_waiting"
    http_status = 429
    retryable = True


class TooMuchStored(RequestError):
    code = "too_much_stored"
    http_status = 429
    retryable = True


class RangeNotSatisfiable(RequestError):
    """``content_range``: the header that tells the whole's size."""

    code = "range_not_satisfiable"
    http_status = 416

    def __init__(self, message: str, content_range: str) -> None:
        super().__init__(message)
        self.content_range = content_range


class WrongMethod(RequestError):
    code = "method_not_allowed"
    http_status = 405


class ResultMissing(ServiceError):
    code = "result_missing"
