"""The service's API for Python programs: one client that blocks, one for asyncio and trio, on httpx alone.

    requests, upload    what is sent
    answers, decoding, models   what comes back
    flows, retries      calls that take more than one request, without I/O
    blocking, nonblocking   the only two that open connections; wiring is what they share
    command, arguments, display   the command ``transcribe``

Knows the API by its documents (docs/api.md, docs/errors.md), not by the server's code, and imports none of
it: whoever calls the service from elsewhere needs neither Celery nor pydantic.
"""

from gateway.client.blocking import Client
from gateway.client.errors import (
    ApiError,
    BadAnswer,
    Busy,
    ClientError,
    ServerAway,
    SourceChanged,
    WaitTimeout,
)
from gateway.client.models import Document, Job, JobStatus, State
from gateway.client.nonblocking import AsyncClient
from gateway.client.retries import Retry, RetryPolicy

__all__ = [
    "ApiError",
    "AsyncClient",
    "BadAnswer",
    "Busy",
    "Client",
    "ClientError",
    "Document",
    "Job",
    "JobStatus",
    "Retry",
    "RetryPolicy",
    "ServerAway",
    "SourceChanged",
    "State",
    "WaitTimeout",
]
