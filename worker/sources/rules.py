"""Which URLs a job may give as its recording, told without the network. Light: the gateway imports it.

The gateway asks before it takes a job, the worker again before it fetches; and the fetch looks at what only
the network tells (worker.sources.connecting).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.errors import BadRequest
from worker.sources.urls import ParsedUrl, S3Object, allowed_s3_url, checked_url

if TYPE_CHECKING:
    from worker.settings import Settings
    from worker.sources.addresses import AddressPolicy

S3_SCHEME = "s3://"


@dataclass(frozen=True)
class UrlRules:
    """``bucket`` is empty where no s3:// URL is taken; ``prefix``: empty, or without outer slashes."""

    policy: AddressPolicy
    bucket: str = ""
    prefix: str = ""

    def check(self, url: str, owner: str) -> ParsedUrl | S3Object:
        """What the URL names, if ``owner`` may have it read. Raises BadRequest, which quotes no secret."""
        if not url.startswith(S3_SCHEME):
            return checked_url(url, self.policy)
        if not self.bucket:
            raise BadRequest(
                "url: s3:// URLs are not taken here: S3 is not configured (S3_STORAGE_BUCKET, "
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
            )
        return allowed_s3_url(url, self.bucket, "/".join(filter(None, (self.prefix, owner))))


def url_rules(settings: Settings) -> UrlRules:
    has_keys = settings.aws_access_key_id and settings.aws_secret_access_key
    bucket = settings.s3_storage_bucket if has_keys else ""
    return UrlRules(settings.url_policy, bucket, settings.s3_prefix.strip("/"))


def name_in(place: ParsedUrl | S3Object) -> str:
    """The last part of the path, as it was written: what the recording is probably called."""
    path = place.key if isinstance(place, S3Object) else place.target.partition("?")[0]
    return path.rpartition("/")[2]
