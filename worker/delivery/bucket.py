"""A bucket of S3's kind, and where in it a result goes. Light: the gateway imports it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.errors import BadRequest

if TYPE_CHECKING:
    from pydantic import SecretStr

    from worker.errors import JobError
    from worker.settings import Settings

MAX_PATH_BYTES = 512
MAX_KEY_BYTES = 1024  # S3's own limit
NOT_DELIVERED = "s3_not_delivered"


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


def bucket_of(settings: Settings) -> Bucket | None:
    """The operator's bucket; None where one of its variables is missing."""
    secret = settings.aws_secret_access_key
    if not (settings.s3_storage_bucket and settings.aws_access_key_id and secret):
        return None
    return Bucket(
        name=settings.s3_storage_bucket,
        access_key_id=settings.aws_access_key_id,
        secret_access_key=secret,
        endpoint_url=settings.s3_endpoint_url,
        region=settings.aws_region,
        prefix=settings.s3_prefix,
    )


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


def not_delivered(error: JobError) -> dict[str, str]:
    """The warning of a job whose result stayed here."""
    return {"code": NOT_DELIVERED, "step": "deliver", "reason": f"the result was kept here: {error.message}"}


def without_that(warnings: list[Any]) -> list[Any]:
    """The warnings of a job whose result was delivered after all."""
    return [warning for warning in warnings if warning["code"] != NOT_DELIVERED]


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
