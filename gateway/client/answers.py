"""From an answer to a record or an error. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.client.decoding import decode
from gateway.client.errors import BUSY, ApiError, BadAnswer, Busy

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

LONGEST_CODE = 64
LONGEST_DIGITS = 9  # of a Retry-After that is meant


def accepted(answer: httpx.Response) -> httpx.Response:
    """The answer; raises ApiError for a refusal, BadAnswer for what the API has no use for."""
    if answer.is_error:
        raise error_of(answer)
    if not answer.is_success:
        raise BadAnswer(f"the answer is HTTP {answer.status_code}: is base_url the service's own?")
    return answer


def read(kind: type[T], answer: httpx.Response) -> T:
    """The record that the body is; raises BadAnswer where it is none."""
    return decode(kind, _json(answer), kind.__name__)


def text(answer: httpx.Response) -> str:
    try:
        return answer.content.decode()
    except UnicodeDecodeError as exc:
        raise BadAnswer("the result is not UTF-8: is this the transcription service?") from exc


def has_stopped(answer: httpx.Response) -> bool:
    """Of a cancel or a release: 202 says that the worker has not confirmed yet."""
    return answer.status_code != HTTPStatus.ACCEPTED


def error_of(answer: httpx.Response) -> ApiError:
    """The refusal that the answer is. A body that is no problem (a proxy's page) is not shown."""
    body, status = _json(answer), answer.status_code
    problem = body if isinstance(body, dict) else {}
    code = _text(problem.get("code"))[:LONGEST_CODE] or f"http_{status}"
    return (Busy if status in BUSY else ApiError)(
        code,
        status,
        _text(problem.get("detail")) or "refused",
        retry_after_s=retry_after_s(answer),
        field_errors=_each(problem.get("errors"), dict),
        locations=_each(problem.get("locations"), str),
    )


def retry_after_s(answer: httpx.Response) -> float | None:
    """Seconds that a Retry-After asks for; None for none, or a date, which this service never sends."""
    value = answer.headers.get("retry-after", "").strip()
    return float(value) if value.isascii() and value.isdigit() and len(value) <= LONGEST_DIGITS else None


def _json(answer: httpx.Response) -> object:
    """None, which is no answer of the API's, for what is no JSON."""
    try:
        return answer.json()
    except (ValueError, RecursionError):  # ValueError covers bad UTF-8, too
        return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _each(values: object, kind: type[T]) -> tuple[Any, ...]:
    return tuple(v for v in values if isinstance(v, kind)) if isinstance(values, list) else ()
