"""Every error that the client raises, as one tree.

    ClientError
    ├── ApiError         the service refused: compare ``code`` with docs/errors.md
    │   └── Busy             429, 502, 503, 504, 507: not now; repeated for a while before it is raised
    ├── ServerAway       no answer, after repeated tries
    ├── BadAnswer        an answer that the API does not have: another server, or a broken one
    ├── WaitTimeout      the job has not ended in the time given; it goes on
    └── SourceChanged    the file became shorter while it was sent

What a caller's own file or arguments do wrong stays Python's: OSError, TypeError, ValueError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.client.models import JobStatus

BUSY = frozenset({429, 502, 503, 504, 507})


class ClientError(Exception):
    """Root of the tree."""


class ApiError(ClientError):
    """A refusal.

    Args:
        code: Stable (docs/errors.md); ``http_<status>`` where the answer was no problem body, as a proxy's.
        retry_after_s: What the service asked for, where it did.
        field_errors: Of a 422: loc, msg, type, a field each.
        locations: Of ``s3_delivered``: where the result is.
    """

    def __init__(
        self,
        code: str,
        status: int,
        message: str,
        *,
        retry_after_s: float | None = None,
        field_errors: tuple[dict[str, Any], ...] = (),
        locations: tuple[str, ...] = (),
    ) -> None:
        super().__init__(code, status, message)
        self.code = code
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s
        self.field_errors = field_errors
        self.locations = locations

    def __str__(self) -> str:
        return f"{self.message} ({self.code}, HTTP {self.status})"


class Busy(ApiError):
    pass


class ServerAway(ClientError):
    pass


class BadAnswer(ClientError):
    pass


class WaitTimeout(ClientError):
    """Carries the job's last known status."""

    def __init__(self, message: str, last: JobStatus) -> None:
        super().__init__(message)
        self.last = last


class SourceChanged(ClientError):
    pass
