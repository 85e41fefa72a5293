"""API keys and their failures, without HTTP."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.failures import BURST, MOST_ADDRESSES, REFILL_S, FailureLimit, network_of
from gateway.keys import BadKeys, Role, line_of, load_keys, new_secret
from tests.gateway.callers import ALICE, BOB, CLIENT_KEYS, OPERATOR_KEY, OPS
from tests.support.service import ROOT
from worker.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = "ab" * 32


def settings(**fields: object) -> Settings:
    return Settings.model_validate(fields)


def test_keys_of_variable_and_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# who runs it\n\n{OPERATOR_KEY}  # on call\n")
    ring = load_keys(settings(api_keys=CLIENT_KEYS, api_keys_file=str(path)))
    assert len(ring) == 3
    found = [ring.caller_of(secret) for secret in (ALICE, BOB, OPS)]
    assert [(caller.name, caller.role) for caller in found if caller] == [
        ("alice", Role.CLIENT),
        ("bob", Role.CLIENT),
        ("ops", Role.OPERATOR),
    ]
    for wrong in ("", ALICE[:-1], ALICE + "x", ALICE.upper(), hashlib.sha256(ALICE.encode()).hexdigest()):
        assert ring.caller_of(wrong) is None


def test_a_name_may_have_two_keys_while_they_are_changed() -> None:
    old, new = new_secret(), new_secret()
    ring = load_keys(settings(api_keys=f"{line_of('a', old, Role.CLIENT)},{line_of('a', new, Role.CLIENT)}"))
    assert ring.caller_of(old) == ring.caller_of(new) is not None


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("alice", "API_KEYS: entry 1 is not name:sha256 or name:sha256:operator"),
        (f"a:{DIGEST},secret-by-mistake", "API_KEYS: entry 2 is not"),
        (f"a:{DIGEST[1:]}", "entry 1 is not"),
        (f"a:{DIGEST}:admin", "entry 1 is not"),
        (f"../x:{DIGEST}", "entry 1 is not"),
        (f"a/b:{DIGEST}", "entry 1 is not"),
        (f"anonymous:{DIGEST}", "entry 1: the name 'anonymous' is taken"),
        (f"a:{DIGEST},b:{DIGEST.upper()}", "the same key is there twice"),
        (" , ", "API_KEYS: there is no key in it"),
    ],
)
def test_keys_that_can_not_be_meant(keys: str, told: str) -> None:
    with pytest.raises(BadKeys) as exc_info:
        load_keys(settings(api_keys=keys))
    assert told in str(exc_info.value)
    assert "secret" not in str(exc_info.value)


@pytest.mark.parametrize("content", ["", "# none\n", None])
def test_a_key_file_without_keys_does_not_open_the_service(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadKeys, match="API_KEYS_FILE: "):
        load_keys(settings(api_keys_file=str(path)))


def test_keys_are_not_shown_with_the_settings() -> None:
    assert DIGEST not in repr(settings(api_keys=f"a:{DIGEST}"))


def test_the_command_makes_a_key_and_its_line() -> None:
    command = [sys.executable, "-m", "ops", "key"]
    made = subprocess.run(
        [*command, "alice", "--operator"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    secret, line = (text.strip() for text in made.stdout.splitlines()[1::2])
    caller = load_keys(settings(api_keys=line)).caller_of(secret)
    assert caller is not None
    assert (caller.name, caller.role) == ("alice", Role.OPERATOR)
    assert len(secret) >= 40
    refused = subprocess.run([*command, "a:b"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: NAME: use up to 64 letters")


def test_failures_fill_a_bucket_that_time_empties() -> None:
    limit = FailureLimit()
    for _ in range(BURST):
        assert limit.wait_s("192.0.2.1", 100.0) == 0
        limit.count("192.0.2.1", 100.0)
    assert limit.wait_s("192.0.2.1", 100.0) == REFILL_S
    assert limit.wait_s("192.0.2.1", 100.0 + REFILL_S / 2) == REFILL_S / 2
    assert limit.wait_s("192.0.2.1", 100.0 + REFILL_S) == 0
    assert limit.wait_s("192.0.2.2", 100.0) == 0


def test_the_buckets_are_bounded() -> None:
    limit = FailureLimit()
    for number in range(MOST_ADDRESSES + 10):
        limit.count(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1.0)
    assert len(limit._buckets) == MOST_ADDRESSES


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_what_counts_as_one_client(address: str, network: str) -> None:
    assert network_of(address) == network
