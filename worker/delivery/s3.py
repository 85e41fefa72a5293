"""Delivers a result as two objects, JSON and Markdown, to a bucket of S3's kind.

The client is made from ``Bucket`` alone: no profile, no variable and no metadata service of AWS has a say.
Retries are ours, so that their number, their waits and their end are known. No message here quotes the
server: it may echo keys.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Any, Protocol

import boto3
import botocore.session
from botocore import exceptions as botocore_errors
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ProxyConnectionError, SSLError

from worker.delivery.markdown import to_markdown
from worker.errors import DeliveryFailed, DeliveryInterrupted
from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.delivery.bucket import Bucket, Locations
    from worker.delivery.document import Document

log = get_logger(__name__)

TRIES = 3
_FIRST_WAIT_S = 1.0
_PASSING_STATUS = frozenset({408, 425, 429})
_PASSING_CODES = frozenset(
    {"RequestTimeout", "SlowDown", "Throttling", "InternalError", "ServiceUnavailable"}
)
_PLAIN_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_JSON, _MARKDOWN = "application/json", "text/markdown; charset=utf-8"
# Where botocore would look for settings besides those given: nowhere.
_NO_FILES: dict[str, tuple[None, None, str | None, None]] = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


class Client(Protocol):
    """What is used of boto3's client."""

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str) -> Any: ...  # noqa: N803  boto3's names

    def close(self) -> None: ...


def create_client(bucket: Bucket) -> Client:
    """Threads may share it. Opens no connection yet."""
    session = boto3.Session(botocore_session=botocore.session.Session(session_vars=_NO_FILES))
    client: Client = session.client(
        "s3",
        endpoint_url=bucket.endpoint_url or None,
        region_name=bucket.region,
        aws_access_key_id=bucket.access_key_id,
        aws_secret_access_key=bucket.secret_access_key.get_secret_value(),
        config=_config(bucket),
    )
    return client


def deliver(
    document: Document,
    locations: Locations,
    client: Client,
    *,
    wait: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Upload both renderings; the URLs of the JSON and the Markdown object. Safe to repeat.

    The JSON comes last: whoever finds it finds both. ``wait`` is called with seconds before each further
    try, and may raise to give the delivery up.

    Raises:
        DeliveryFailed: The bucket or its credentials must be mended first.
        DeliveryInterrupted: The server was slow, busy or away in each of the tries.
    """
    uploads = [
        (locations.markdown_key, to_markdown(document).encode(), _MARKDOWN),
        (locations.json_key, document.model_dump_json().encode(), _JSON),
    ]
    for key, body, media_type in uploads:
        _put_patiently(client, locations.bucket, key, body, media_type, wait)
    return locations.urls


def failed_for_good(*, passing: bool, tries: int, most: int) -> bool:
    """Whether to give up after ``tries`` tries; ``passing``: the last one's fault may pass by itself."""
    return not passing or tries >= most


def wait_s(tries: int) -> float:
    """Seconds between the try numbered ``tries`` (from 1) and the next: 1, 4, 16 ..."""
    return float(_FIRST_WAIT_S * 4 ** (tries - 1))


def _put_patiently(
    client: Client, bucket: str, key: str, body: bytes, media_type: str, wait: Callable[[float], None]
) -> None:
    tries = 1
    while True:
        try:
            client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=media_type)
        except (ClientError, BotoCoreError) as exc:
            passing, reason = _sorted(exc)
            log.warning("upload_failed", attempt=tries, passing=passing, reason=reason)
            if failed_for_good(passing=passing, tries=tries, most=TRIES):
                raise _as_ours(passing, reason, tries) from exc
        else:
            return
        wait(wait_s(tries))
        tries += 1


def _as_ours(passing: bool, reason: str, tries: int) -> DeliveryFailed | DeliveryInterrupted:
    if passing:
        return DeliveryInterrupted(f"the bucket could not be reached in {tries} tries (last: {reason})")
    return DeliveryFailed(f"the bucket refused the result: {reason}")


def _sorted(exc: ClientError | BotoCoreError) -> tuple[bool, str]:
    """Whether the fault passes by itself, and what it was, in words of ours."""
    if isinstance(exc, ClientError):
        return _sorted_answer(exc)
    lasting = isinstance(exc, (SSLError, ProxyConnectionError))
    passing = isinstance(exc, (HTTPClientError, botocore_errors.ConnectionError)) and not lasting
    return passing, f"no answer ({type(exc).__name__})"


def _sorted_answer(exc: ClientError) -> tuple[bool, str]:
    status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(exc.response.get("Error", {}).get("Code", ""))
    passing = status >= 500 or status in _PASSING_STATUS or code in _PASSING_CODES  # noqa: PLR2004  HTTP's own
    shown = f"{code}, " if _PLAIN_CODE.fullmatch(code) and code != str(status) else ""
    return passing, f"{shown}status {status}"


def _config(bucket: Bucket) -> Config:
    return Config(
        connect_timeout=bucket.connect_timeout_s,
        read_timeout=bucket.read_timeout_s,
        retries={"total_max_attempts": 1},
        ignore_configured_endpoint_urls=True,
        # Servers other than AWS seldom have a name for each bucket, and some know no checksum trailers.
        s3={"addressing_style": "path" if bucket.endpoint_url else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
