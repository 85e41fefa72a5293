"""The errors that only HTTP knows: worker.errors' tree, continued.

RequestError
├── InvalidRequest    a field is missing, unknown, given twice or out of its values
├── UnsupportedBody   the body is of a kind that this endpoint does not take
├── UploadStalled     the client stopped sending in the middle of the body
├── AlreadyEnded      a job that has ended can't be cancelled
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


class UnsupportedBody(RequestError):
    code = "unsupported_body"
    http_status = 415


class UploadStalled(RequestError):
    code = "upload_stalled"
    http_status = 408


class AlreadyEnded(RequestError):
    code = "already_ended"
    http_status = 409


class WrongMethod(RequestError):
    code = "method_not_allowed"
    http_status = 405


class ResultMissing(ServiceError):
    code = "result_missing"
