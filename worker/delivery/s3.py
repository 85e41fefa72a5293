"""Delivers a result as two objects, JSON and Markdown, to a bucket of S3's kind.

The client is made from ``Bucket`` alone: no profile, no variable and no metadata service of AWS has a say.
Retries are ours, so that their number, their waits and their end are known. No message here quotes the
server: it may echo keys.
"""

from __future__ import annotations

import os
import re
import time
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import boto3
import botocore.session
from botocore import exceptions as botocore_errors
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ProxyConnectionError, SSLError

from worker.delivery.markdown import to_markdown
from worker.errors import BadRequest, DeliveryFailed, DeliveryInterrupted
from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

    from worker.delivery.document import Document

log = get_logger(__name__)

MAX_PATH_BYTES = 512
MAX_KEY_BYTES = 1024  # S3's own limit
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


@dataclass(frozen=True)
class Bucket:
    """Where results go. ``endpoint_url`` empty: AWS itself; ``prefix``: empty, or without outer slashes."""

    name: str
    access_key_id: str
    secret_access_key: SecretStr
    endpoint_url: str = ""
    region: str = "us-east-1"
    prefix: str = ""
    connect_timeout_s: float = 5
    read_timeout_s: float = 30


@dataclass(frozen=True)
class Locations:
    """The two objects of one result."""

    bucket: str
    json_key: str
    markdown_key: str

    @property
    def urls(self) -> list[str]:
        return [f"s3://{self.bucket}/{key}" for key in (self.json_key, self.markdown_key)]


def create_client(bucket: Bucket) -> Client:
    """One client for the process's life; threads may share it. Opens no connection."""
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


def checked_s3_path(text: str, field: str = "s3_path") -> str:
    """The path if it is one that no server, proxy or file system reads as another; raises BadRequest."""
    fault = _fault_of(text)
    if fault:
        raise BadRequest(f"{field}: {fault}")
    return text


def object_keys(bucket: Bucket, owner: str, s3_path: str) -> Locations:
    """``<prefix>/<owner>/<s3_path>.json`` and ``.md``; raises BadRequest, which names the field at fault."""
    if "/" in owner:
        raise BadRequest("owner: must not contain a slash")
    parts = [bucket.prefix, checked_s3_path(owner, "owner"), checked_s3_path(s3_path)]
    base = "/".join(filter(None, parts))
    if _utf8_bytes(f"{base}.json") > MAX_KEY_BYTES:
        raise BadRequest(f"s3_path: too long: the object's key would exceed {MAX_KEY_BYTES} bytes")
    return Locations(bucket.name, f"{base}.json", f"{base}.md")


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


def _fault_of(text: str) -> str | None:
    """The first thing that is wrong with a path."""
    segments = text.split("/")
    unsafe = "\\" in text or any(unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"} for sign in text)
    faults = [
        ("must not be empty", not text),
        ("must not begin with a slash", text.startswith("/")),
        ("must not contain an empty part, nor end with a slash", "" in segments),
        ("must not contain the parts . or ..", "." in segments or ".." in segments),
        ("must not contain backslashes or control characters", unsafe),
        (f"must not be longer than {MAX_PATH_BYTES} bytes of UTF-8", _utf8_bytes(text) > MAX_PATH_BYTES),
    ]
    return next((fault for fault, found in faults if found), None)


def _utf8_bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))
