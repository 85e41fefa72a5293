"""Which addresses are public, and what an operator's policy opens."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from worker.errors import UrlForbidden
from worker.sources.addresses import (
    PUBLIC_ONLY,
    AddressPolicy,
    address_policy,
    checked_addresses,
    is_public,
    literal_address,
)

NOT_PUBLIC = [
    "0.0.0.0",  # noqa: S104  an address to refuse, none to listen on
    *("0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255"),
    *("127.0.0.1", "127.255.255.254", "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255"),
    *("192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255"),
    *("198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("100.100.100.200", "168.63.129.16"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:7f00:1", "::127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378::1"),
    *("2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1"),
    *("5f00::1", "fc00::1", "fd00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
    "2606:4700::1%eth0",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "100.63.255.255",
    "172.32.0.1",
    "192.169.0.1",
    "223.255.255.255",
]
PUBLIC_V6 = ["2606:4700:4700::1111", "2a00:1450:4001::200e", "2001:4860:4860::8888", "2620:fe::fe"]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_special_addresses_are_not_public(text: str) -> None:
    assert not is_public(ip_address(text))
    with pytest.raises(UrlForbidden):
        checked_addresses("host.example", [text], PUBLIC_ONLY)


@pytest.mark.parametrize("text", [*PUBLIC, *PUBLIC_V6])
def test_plain_addresses_are_public(text: str) -> None:
    assert is_public(ip_address(text))
    assert checked_addresses("host.example", [text], PUBLIC_ONLY) == [ip_address(text)]


def test_one_private_address_spoils_all() -> None:
    with pytest.raises(UrlForbidden) as refusal:
        checked_addresses("host.example", ["8.8.8.8", "10.1.2.3"], PUBLIC_ONLY)
    assert "host.example" in refusal.value.message
    assert "10.1.2.3" not in refusal.value.message, "tells a stranger what the network looks like inside"


def test_addresses_are_tried_once_each() -> None:
    found = checked_addresses("host.example", ["8.8.8.8", "1.1.1.1", "8.8.8.8"], PUBLIC_ONLY)
    assert [str(address) for address in found] == ["8.8.8.8", "1.1.1.1"]


@pytest.mark.parametrize(
    ("text", "opened"),
    [
        *(("127.0.0.1", True), ("10.1.2.3", True), ("172.16.0.1", True), ("192.168.1.1", True)),
        *(("::1", True), ("fd12::1", True), ("8.8.8.8", True)),
        *(("169.254.169.254", False), ("fd00:ec2::254", False), ("fd20:ce::254", False), ("fe80::1", False)),
        *(("100.64.0.1", False), ("0.1.2.3", False), ("224.0.0.1", False), ("::ffff:10.0.0.1", False)),
        *(("64:ff9b::a00:1", False), ("2002:a00:1::1", False), ("168.63.129.16", False), ("::", False)),
    ],
)
def test_allowing_private_addresses_opens_no_others(text: str, opened: bool) -> None:
    assert AddressPolicy(allow_private=True).permits(ip_address(text), "host.example") is opened
    assert AddressPolicy(allow_hosts=("host.example",)).permits(ip_address(text), "host.example") is opened


@pytest.mark.parametrize(
    ("host", "named"),
    [
        *(
            ("media.corp", True),
            ("a.media.corp", False),
            ("xmedia.corp", False),
            ("media.corp.evil.com", False),
        ),
        *(("store.lan", True), ("a.store.lan", True), ("a.b.store.lan", True), ("xstore.lan", False)),
    ],
)
def test_hosts_are_allowed_by_name_or_suffix(host: str, named: bool) -> None:
    policy = address_policy(" Media.corp, .store.lan ", allow_private=False)
    assert policy.names(host) is named
    assert policy.permits(ip_address("10.0.0.1"), host) is named


def test_networks_are_allowed_whatever_they_are() -> None:
    policy = address_policy("100.64.0.0/10, 169.254.7.7, fe80::/64", allow_private=False)
    for text in ("100.64.0.1", "169.254.7.7", "fe80::1"):
        assert policy.permits(ip_address(text), "host.example")
    for text in ("169.254.169.254", "10.0.0.1", "fe80:1::1"):
        assert not policy.permits(ip_address(text), "host.example")


@pytest.mark.parametrize(
    "entry", ["10.0.0.1/8", "10.0.0.0/99", "no host", "a..b", "http://x.com", "*.x.com", "x/y"]
)
def test_an_entry_that_is_neither_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="is no host name"):
        address_policy(f"good.example, {entry}", allow_private=False)


def test_no_entries_allow_nothing() -> None:
    assert address_policy(" , ", allow_private=False) == PUBLIC_ONLY


def test_only_addresses_are_literal() -> None:
    assert literal_address("10.0.0.1") == ip_address("10.0.0.1")
    assert literal_address("::1") == ip_address("::1")
    assert literal_address("example.org") is None
