"""Signs webhooks as Standard Webhooks 1.0 says, symmetric scheme: https://www.standardwebhooks.com."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import SecretStr

SECRET_PREFIX = "whsec_"  # noqa: S105  what a secret begins with, and none itself  # nosec B105
TOLERANCE_S = 300
_MIN_KEY_BYTES, _MAX_KEY_BYTES = 24, 64  # the specification's
_VERSION = "v1"


def signing_key(secret: str) -> bytes:
    """The key in a secret such as ``whsec_MfKQ...``; raises ValueError, which does not quote it."""
    encoded = secret.removeprefix(SECRET_PREFIX)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be whsec_ and base64 after it") from None
    if encoded == secret or not _MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES:
        raise ValueError(f"must be whsec_ and the base64 of {_MIN_KEY_BYTES} to {_MAX_KEY_BYTES} bytes")
    return key


def signing_keys(secrets: SecretStr | None) -> list[bytes]:
    """The keys in a setting that holds none, one or several secrets, parted by blanks; raises ValueError."""
    return [signing_key(secret) for secret in secrets.get_secret_value().split()] if secrets else []


def signed_headers(keys: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of one try, signed with each key: while a secret changes, receivers know either.

    Args:
        keys: At least one.
        webhook_id: The same in every try of a delivery; no full stop in it.
        timestamp: Unix seconds of this try.
        body: Exactly as it is sent.
    """
    signatures = [_signature(key, webhook_id, timestamp, body) for key in keys]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def is_genuine(keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """What a receiver checks: signed by one of the keys, and not long ago. Names of headers in lower case."""
    webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split(" ")
    if not (webhook_id and timestamp.isascii() and timestamp.isdecimal()):
        return False
    if abs(now - int(timestamp)) > TOLERANCE_S:
        return False
    expected = [_signature(key, webhook_id, int(timestamp), body) for key in keys]
    return any(hmac.compare_digest(one.encode(), other.encode()) for one in expected for other in given)


def _signature(key: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"{_VERSION},{base64.b64encode(digest).decode()}"
