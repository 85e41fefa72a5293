"""Brings a job's recording from its URL, by http(s) or from S3, with the limits that the settings give.

For a worker's child: it loads an HTTP client, and boto3 for s3:// URLs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from worker.delivery.bucket import Bucket
from worker.errors import BadRequest, UrlForbidden
from worker.sources.fetch import fetch
from worker.sources.intake import Fetched, FetchLimits
from worker.sources.rules import url_rules
from worker.sources.urls import S3Object

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.settings import Settings
    from worker.sources.s3_source import ObjectReader


def bring_recording(
    url: str,
    owner: str,
    target: Path,
    settings: Settings,
    check: Callable[[], None],
    report: Callable[[int, int | None], None],
    require_space: Callable[[int], None],
    room_bytes: int | None = None,
) -> Fetched:
    """Bring what lies at ``url`` to ``target``, as worker.sources.fetch.fetch does; raises the same.

    Args:
        room_bytes: What the owner's jobs may still hold; None: as much as one upload.
    """
    limits = fetch_limits(settings, room_bytes)
    try:
        place = url_rules(settings).check(url, owner)
    except BadRequest as exc:
        raise UrlForbidden(exc.message) from exc
    if not isinstance(place, S3Object):
        return fetch(url, target, limits, settings.url_policy, check, report, require_space=require_space)
    from worker.sources.s3_source import fetch_object  # noqa: PLC0415  loads boto3

    reader = object_reader(settings)
    return fetch_object(place, target, limits, reader, check, report, require_space=require_space)


def fetch_limits(settings: Settings, room_bytes: int | None = None) -> FetchLimits:
    most_bytes = settings.max_upload_bytes
    return FetchLimits(
        max_bytes=most_bytes if room_bytes is None else min(most_bytes, room_bytes),
        connect_s=settings.url_connect_s,
        idle_s=settings.url_idle_s,
        total_s=settings.url_total_s,
        tries=settings.url_tries,
    )


def object_reader(settings: Settings) -> ObjectReader:
    """A client of the operator's own S3 server."""
    from worker.delivery.s3 import create_client  # noqa: PLC0415  loads boto3

    secret = settings.aws_secret_access_key
    if secret is None:
        raise UrlForbidden("url: S3 is not configured (AWS_SECRET_ACCESS_KEY)")
    bucket = Bucket(
        name=settings.s3_storage_bucket,
        access_key_id=settings.aws_access_key_id,
        secret_access_key=secret,
        endpoint_url=settings.s3_endpoint_url,
        region=settings.aws_region,
        connect_timeout_s=settings.url_connect_s,
        read_timeout_s=settings.url_idle_s,
    )
    return cast("ObjectReader", create_client(bucket))
