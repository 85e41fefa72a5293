"""Where results and news of jobs may go on this server: looked at before a job is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import InvalidRequest, S3NotConfigured, WebhookNotConfigured
from worker.delivery.bucket import bucket_of, object_keys
from worker.errors import BadRequest
from worker.sources.urls import checked_url

if TYPE_CHECKING:
    from worker.delivery.bucket import Bucket
    from worker.settings import Settings
    from worker.sources.addresses import AddressPolicy


_LONGEST_OWNER = "o" * 64  # stands for any: gateway.keys has the rule for their names


@dataclass(frozen=True)
class Outputs:
    """``bucket``: None where none is configured; ``webhooks``: None where they can't be signed."""

    bucket: Bucket | None = None
    webhooks: AddressPolicy | None = None

    def check(self, s3_path: str | None, webhook_url: str | None, where: str = "body") -> None:
        """Raises S3NotConfigured, WebhookNotConfigured, InvalidRequest.

        Args:
            where: The part of the HTTP request that the fields come from.
        """
        if s3_path is not None:
            self._check_path(s3_path, where)
        if webhook_url is not None:
            self._check_url(webhook_url, where)

    def _check_path(self, s3_path: str, where: str) -> None:
        if self.bucket is None:
            told = "this server delivers to no bucket: leave the field 's3_path' out"
            raise S3NotConfigured(told, field="s3_path", kind=S3NotConfigured.code, where=where)
        try:
            object_keys(self.bucket, _LONGEST_OWNER, s3_path)
        except BadRequest as exc:
            raise _invalid("s3_path", exc, where) from exc

    def _check_url(self, webhook_url: str, where: str) -> None:
        if self.webhooks is None:
            told = "this server sends no webhooks: leave the field 'webhook_url' out"
            raise WebhookNotConfigured(told, field="webhook_url", kind=WebhookNotConfigured.code, where=where)
        try:
            checked_url(webhook_url, self.webhooks)
        except BadRequest as exc:
            raise _invalid("webhook_url", exc, where) from exc


NOWHERE = Outputs()


def outputs_of(settings: Settings) -> Outputs:
    return Outputs(bucket_of(settings), settings.url_policy if settings.webhook_secret else None)


def _invalid(field: str, fault: BadRequest, where: str) -> InvalidRequest:
    """``checked_url`` and ``object_keys`` put a name of the field, and a colon, before what is wrong."""
    told = f"the field '{field}' {fault.message.partition(': ')[2]}"
    return InvalidRequest(told, field=field, kind="value_error", where=where)
