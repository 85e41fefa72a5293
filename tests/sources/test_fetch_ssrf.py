"""No URL, name or redirect opens a connection to an address that is not public.

The servers here listen on loopback, which the policy under test forbids: one connection is one too many.
A name is made public by a policy that allows it, so that redirects can be looked at.
"""

from __future__ import annotations

from ipaddress import ip_network
from itertools import chain, repeat
from typing import TYPE_CHECKING

import pytest

from tests.sources.fetching import Fetching
from tests.sources.raw_server import RawServer, answers, serves
from tests.sources.test_addresses import NOT_PUBLIC
from tests.sources.test_fetch_urls import INNER, ODD
from worker.errors import UrlForbidden
from worker.sources.addresses import PUBLIC_ONLY, AddressPolicy

if TYPE_CHECKING:
    from pathlib import Path

OPEN = AddressPolicy(allow_hosts=("open.example",))
CONTENT = b"RIFF"


@pytest.fixture
def job(tmp_path: Path) -> Fetching:
    return Fetching(tmp_path, policy=PUBLIC_ONLY)


def unused(host: str, _port: int) -> list[str]:
    raise AssertionError(f"{host} was resolved")


@pytest.mark.parametrize("url", [*INNER, *ODD])
def test_a_url_that_leads_inside_is_not_asked_for(job: Fetching, url: str) -> None:
    job.resolve = unused
    with pytest.raises(UrlForbidden):
        job.run(url)
    assert job.names == set()


@pytest.mark.parametrize("address", NOT_PUBLIC)
@pytest.mark.parametrize("beside", [[], ["8.8.8.8"]], ids=["alone", "beside a public one"])
def test_a_name_that_leads_inside_is_not_connected_to(
    job: Fetching, monkeypatch: pytest.MonkeyPatch, address: str, beside: list[str]
) -> None:
    def connect(*_args: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("worker.sources.connecting._connected", connect)
    job.resolve = lambda _host, _port: [*beside, address]
    with pytest.raises(UrlForbidden) as refusal:
        job.run("http://talks.example/?token=t0ken")
    assert "t0ken" not in refusal.value.message
    assert refusal.value.code == "url_forbidden"


@pytest.mark.parametrize("host", ["talks.example", "open.example.evil.example", "xopen.example"])
def test_loopback_behind_a_name_is_not_connected_to(job: Fetching, host: str) -> None:
    job.policy = OPEN
    with RawServer([serves(CONTENT)]) as server:
        with pytest.raises(UrlForbidden):
            job.run(server.url(host=host))
        assert server.connections == 0


@pytest.mark.parametrize(
    "location",
    [
        *(
            "http://127.0.0.1:{port}/",
            "//127.0.0.1:{port}/",
            "http://talks.example:{port}/",
            "http://[::1]:{port}/",
        ),
        *("http://localhost:{port}/", "http://open.example@127.0.0.1:{port}/", "http://2130706433:{port}/"),
        *("http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "gopher://127.0.0.1:{port}/_x"),
        *("http://[", "http://a b/", "ftp://open.example/", "http://open.example:25/", "\\\\127.0.0.1\\x"),
    ],
)
def test_a_redirect_that_leads_inside_is_not_followed(job: Fetching, location: str) -> None:
    job.policy = OPEN
    with RawServer([serves(CONTENT)]) as inner:
        with RawServer(
            [answers(302, Location=location.format(port=inner.port)), serves(b"followed")]
        ) as server:
            with pytest.raises(UrlForbidden):
                job.run(server.url(host="open.example"))
            assert server.connections == 1
        assert inner.connections == 0
    assert job.names == set()


def test_a_name_that_turns_private_after_the_first_look_is_noticed(job: Fetching) -> None:
    """DNS rebinding: every connection looks anew, and connects to what it looked at."""
    found = chain([["127.0.0.1"]], repeat(["127.0.0.2"]))
    job.resolve = lambda _host, _port: next(found)
    job.policy = AddressPolicy(allow_networks=(ip_network("127.0.0.1/32"),))
    with RawServer([answers(302, Location="/again"), serves(CONTENT)]) as server:
        with pytest.raises(UrlForbidden):
            job.run(server.url(host="talks.example"))
        assert server.connections == 1


def test_a_connection_resolves_once_and_goes_where_it_looked(job: Fetching) -> None:
    answers_of_dns = chain([["127.0.0.1"]], repeat(["127.0.0.2"]))
    asked: list[str] = []

    def rebinding(host: str, _port: int) -> list[str]:
        asked.append(host)
        return next(answers_of_dns)

    job.policy, job.resolve = OPEN, rebinding
    with RawServer([serves(CONTENT)]) as server:
        job.run(server.url(host="open.example"))
        assert server.connections == 1
    assert asked == ["open.example"]


def test_an_address_is_not_resolved(job: Fetching) -> None:
    job.policy, job.resolve = AddressPolicy(allow_private=True), unused
    with RawServer([serves(CONTENT)]) as server:
        assert job.run(server.url()).size_bytes == len(CONTENT)
