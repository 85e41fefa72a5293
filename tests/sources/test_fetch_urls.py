"""What can be told of a URL without the network."""

from __future__ import annotations

import subprocess
import sys

import pytest

from worker.errors import BadRequest
from worker.sources.addresses import AddressPolicy, address_policy
from worker.sources.urls import MAX_URL_LENGTH, S3Object, allowed_s3_url, checked_url

INNER = [
    *("http://127.0.0.1/", "http://127.0.0.1:8080/", "https://127.0.0.1/", "http://127.0.0.1./"),
    *("http://localhost/", "http://LOCALHOST/", "http://localhost./", "http://a.localhost/"),
    *("http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.0.1/", "http://169.254.169.254/latest/"),
    *("http://0.0.0.0/", "http://100.64.0.1/", "http://255.255.255.255/", "http://224.0.0.1/"),
    *("http://[::1]/", "http://[::]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/"),
    *("http://[::ffff:8.8.8.8]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/"),
    *("http://[2001:0:7f00:1::]/", "http://[fd00:ec2::254]/", "http://[fe80::1]/", "http://[fc00::1]/"),
    *("http://public@127.0.0.1/", "http://8.8.8.8@127.0.0.1/", "http://example.org:80@127.0.0.1/"),
    *("http://127.0.0.1#@example.org/", "http://127.0.0.1?@example.org/", "http://user:p%40ss@127.0.0.1/"),
    *(
        "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11/",
        "http://127。0。0。1/",
        "http://①②⑦.⓪.⓪.①/",
        "http://\uff4cocalhost/",
    ),
]
ODD = [
    *("http://0x7f.1/", "http://0x7f000001/", "http://2130706433/", "http://0177.0.0.1/", "http://127.1/"),
    *("http://127.0.1/", "http://0x7f.0x0.0x0.0x1/", "http://017700000001/", "http://127.0.0.01/"),
    *(
        "http://00000.0/",
        "http://0/",
        "http://0x/",
        "http://1.2.3.4.5/",
        "http://256.1.1.1/",
        "http://8.8.8.8.0x8/",
    ),
    *(
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[::1",
        "http://[127.0.0.1]/",
        "http://[x]/",
    ),
    *(
        "http://[v1.x]/",
        "http://::1/",
        "http://%31%32%37.0.0.1/",
        "http://127%2e0.0.1/",
        "http://127.0.0.1%00/",
    ),
    *(
        "http://127.0.0.1%23.example.org/",
        "http://a@b@127.0.0.1/",
        "http://a..b/",
        "http://.a/",
        "http://a../",
    ),
    *("http://-a/", "http://a-/", "http://a b/", "http://a!b/", "http://a,b/", f"http://{'a' * 64}.org/"),
    f"http://{'a.' * 130}org/",
    *(
        "http:///etc/passwd",
        "http:127.0.0.1",
        "http:/127.0.0.1/",
        "//example.org/",
        "example.org/x",
        "",
        "http://",
    ),
    *("ftp://example.org/", "file:///etc/passwd", "gopher://example.org/", "s3://bucket/key", "data:,x"),
    *("javascript:alert(1)", "unix:/run/x.sock", "http+unix://x/", "ws://example.org/"),
    *(
        "http://exa\nmple.org/",
        "http://example.org/\r\nHost: x",
        "http://example.org/\t",
        " http://example.org/",
    ),
    *(
        "http://example.org/ ",
        "http://example.org/a b",
        "http://example.org\\@127.0.0.1/",
        "http:\\\\example.org/",
    ),
    *(
        "http://example.org/\x00",
        "http://example.org/\x7f",
        "http://exa\u200bmple.org/",
        "http://x\u202e.org/",
    ),
    *(
        "http://example.org/\ud800",
        "http://example.org:99999/",
        "http://example.org:-1/",
        "http://example.org:x/",
    ),
    *(
        "http://example.org:0/",
        "http://example.org:22/",
        "http://example.org:25/",
        "http://example.org:6379/",
    ),
    "http://ex\u2100mple.org/",  # decomposes into a slash
    *("http://xn--a\u00e4.org/", "http://\u0378.org/"),
]


@pytest.mark.parametrize("url", [*INNER, *ODD])
def test_what_leads_inside_or_is_odd_is_refused(url: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        checked_url(url)
    assert refusal.value.message.startswith("url: ")
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__, "a library's error would quote the URL"


@pytest.mark.parametrize("url", ODD)
def test_what_is_odd_is_refused_even_where_private_addresses_are_allowed(url: str) -> None:
    with pytest.raises(BadRequest):
        checked_url(url, AddressPolicy(allow_private=True))


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("http://example.org", "http://example.org", "/"),
        ("HTTPS://Example.ORG:443/A?b=C#d", "https://example.org", "/A?b=C"),
        ("http://example.org.:8080/a/../b", "http://example.org:8080", "/a/../b"),
        ("http://example.org?x", "http://example.org", "/?x"),
        ("http://8.8.8.8/a%20b?x=%41", "http://8.8.8.8", "/a%20b?x=%41"),
        ("http://[2606:4700::0001]:81/", "http://[2606:4700::1]:81", "/"),
        ("http://bücher.example/ä?ö", "http://xn--bcher-kva.example", "/%C3%A4?%C3%B6"),
        ("https://my_bucket.s3.example/k?X-Sig=a/b+c=", "https://my_bucket.s3.example", "/k?X-Sig=a/b+c="),
        ("http://example.org:/", "http://example.org", "/"),
    ],
)
def test_what_is_plain_is_taken(url: str, origin: str, target: str) -> None:
    parsed = checked_url(url)
    assert (parsed.origin, parsed.target) == (origin, target)


def test_a_long_url_is_refused() -> None:
    url = "http://example.org/".ljust(MAX_URL_LENGTH, "a")
    assert checked_url(url).host == "example.org"
    with pytest.raises(BadRequest, match="longer than 2048"):
        checked_url(url + "a")


def test_credentials_are_taken_and_not_shown() -> None:
    parsed = checked_url("https://us%40er:pa%3Ass@example.org/?token=t0ken")
    assert (parsed.username, parsed.password) == ("us@er", "pa:ss")
    for secret in ("us@er", "pa:ss", "t0ken"):
        assert secret not in repr(parsed)
        assert secret not in parsed.origin


def test_a_policy_opens_what_it_names() -> None:
    assert (
        checked_url("http://10.0.0.1/", address_policy("10.0.0.0/8", allow_private=False)).host == "10.0.0.1"
    )
    assert checked_url("http://localhost/", address_policy("localhost", allow_private=False))
    assert checked_url("http://127.0.0.1/", AddressPolicy(allow_private=True))
    with pytest.raises(BadRequest, match="not public"):
        checked_url("http://169.254.169.254/", AddressPolicy(allow_private=True))


def test_an_object_under_the_prefix_is_taken_as_it_is_written() -> None:
    assert allowed_s3_url("s3://talks/in/a b?c#d%2F.wav", "talks", "in") == S3Object(
        "talks", "in/a b?c#d%2F.wav"
    )
    assert allowed_s3_url("s3://talks/x", "talks", "") == S3Object("talks", "x")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "s3://other/in/x",
            "s3://talks/inside/x",
            "s3://talks/in",
            "s3://talks/in/",
            "s3://talks/",
            "s3://talks",
        ),
        *("s3://talks/in/../secret", "s3://talks/in/./x", "s3://talks/in//x", "s3://talks//in/x"),
        *(
            "S3://talks/in/x",
            "https://talks/in/x",
            "s3:/talks/in/x",
            "s3://u@talks/in/x",
            "s3://Talks/in/x",
            "",
        ),
        *("s3://talks/in/a\nb", "s3://talks/in/a\\b", "s3://talks/in/\ud800", f"s3://talks/in/{'a' * 1022}"),
    ],
)
def test_any_other_object_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="url: "):
        allowed_s3_url(url, "talks", "in")


def test_the_gateway_loads_no_client_with_it() -> None:
    code = (
        "import sys, worker.sources.urls; "
        "print(sorted({'httpcore2', 'boto3', 'botocore', 'av', 'structlog'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
