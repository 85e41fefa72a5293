"""Signatures, checked by the reference implementation of Standard Webhooks and by its published vector."""

from __future__ import annotations

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from standardwebhooks import Webhook as Reference
from standardwebhooks import WebhookVerificationError

from worker.delivery.signing import TOLERANCE_S, is_genuine, signed_headers, signing_key, signing_keys
from worker.settings import Settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  the specification's example
OTHER = "whsec_" + base64.b64encode(b"o" * 24).decode()
KEY, OTHER_KEY = signing_key(SECRET), signing_key(OTHER)


def test_the_published_vector() -> None:
    headers = signed_headers([KEY], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(st.dictionaries(st.text(), st.text()), st.binary(min_size=24, max_size=64))
def test_the_reference_takes_what_we_sign(data: dict[str, str], key: bytes) -> None:
    body = json.dumps(data).encode()
    headers = signed_headers([OTHER_KEY, key], "msg_1", int(time.time()), body)
    assert Reference("whsec_" + base64.b64encode(key).decode()).verify(body, headers) == data


def test_either_key_verifies_while_a_secret_changes() -> None:
    headers = signed_headers([KEY, OTHER_KEY], "msg_1", 1000, b"{}")
    assert is_genuine([KEY], headers, b"{}", 1000)
    assert is_genuine([OTHER_KEY], headers, b"{}", 1000)
    assert not is_genuine([b"x" * 24], headers, b"{}", 1000)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": "1001"},
        {"webhook-timestamp": "1e3"},
        {"webhook-timestamp": ""},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,ü"},
    ],
)
def test_changed_headers_are_not_genuine(change: dict[str, str]) -> None:
    headers = signed_headers([KEY], "msg_1", 1000, b"{}")
    assert is_genuine([KEY], headers, b"{}", 1000)
    assert not is_genuine([KEY], {**headers, **change}, b"{}", 1000)


def test_a_changed_body_is_not_genuine() -> None:
    headers = signed_headers([KEY], "msg_1", int(time.time()), b"{}")
    assert not is_genuine([KEY], headers, b"{ }", time.time())
    with pytest.raises(WebhookVerificationError):
        Reference(SECRET).verify(b"{ }", headers)


def test_old_and_future_ones_are_not_genuine() -> None:
    headers = signed_headers([KEY], "msg_1", 1000, b"{}")
    assert is_genuine([KEY], headers, b"{}", 1000 + TOLERANCE_S)
    assert not is_genuine([KEY], headers, b"{}", 1001 + TOLERANCE_S)
    assert not is_genuine([KEY], headers, b"{}", 999 - TOLERANCE_S)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_",
        "whsec_!!!!",
        "whsec_" + base64.b64encode(b"s" * 23).decode(),
        "whsec_" + base64.b64encode(b"s" * 65).decode(),
    ],
)
def test_secrets_of_another_form_are_refused_and_not_quoted(secret: str) -> None:
    with pytest.raises(ValueError, match="must be whsec_") as caught:
        signing_key(secret)
    assert not secret.removeprefix("whsec_") or secret not in str(caught.value)


def test_a_setting_holds_none_one_or_two_secrets_and_is_not_quoted() -> None:
    one, two = ("whsec_" + base64.b64encode(bytes([n]) * 24).decode() for n in (1, 2))
    assert signing_keys(None) == []
    assert signing_keys(SecretStr(f" {one} {two}")) == [b"\1" * 24, b"\2" * 24]
    with pytest.raises(ValidationError) as refused:
        Settings(webhook_secret=SecretStr(f"{one} hush"))
    assert "must be whsec_" in str(refused.value)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("s3_prefix", "/a"),
        ("s3_prefix", "a/"),
        ("s3_storage_bucket", "a/b"),
        ("s3_endpoint_url", "minio:9000"),
        ("url_allow_hosts", "10.0.0.1/8"),
        ("url_allow_hosts", "a b"),
    ],
)
def test_settings_of_outputs_that_can_not_be(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: value})
