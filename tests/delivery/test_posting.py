"""The real POST: to the address that was checked, under the name that was asked, and nowhere else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ops.stack import free_port
from tests.delivery.certificates import server_and_trust
from tests.delivery.receivers import Receiver, answer, garbage, reset
from worker.delivery.posting import GuardedPost, resolve
from worker.delivery.webhook import Webhook
from worker.delivery.webhook_rules import Outcome
from worker.sources.addresses import PUBLIC_ONLY, AddressPolicy

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from tests.delivery.receivers import Answer

PRIVATE = AddressPolicy(allow_private=True)
FORBIDDEN = Outcome(error="address_forbidden", lasting=True)


class Names:
    """A resolver that knows what it is told, and counts."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        if not self.addresses:
            raise OSError("no such name")
        return self.addresses


def posted(
    url: str,
    policy: AddressPolicy = PRIVATE,
    names: Names | None = None,
    trust: ssl.SSLContext | None = None,
) -> Outcome:
    post = GuardedPost(policy, resolve=names or resolve, trust=trust)
    webhook = Webhook(url, {"content-type": "application/json", "webhook-id": "msg_1"}, b'{"a": 1}')
    return asyncio.run(_sent(post, webhook))


async def _sent(post: GuardedPost, webhook: Webhook) -> Outcome:
    return await post(webhook)


def test_the_request_arrives_as_it_was_signed() -> None:
    with Receiver([answer(204)]) as server:
        assert posted(f"{server.url}/in/ä?key=1%202") == Outcome(204)
    [got] = server.received
    assert (got.method, got.path, got.body) == ("POST", "/in/%C3%A4?key=1%202", b'{"a": 1}')
    assert got.headers["host"] == server.url.removeprefix("http://")
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-id"] == "msg_1"
    assert got.headers["user-agent"].startswith("transcription-service")


def test_a_name_is_resolved_once_and_the_checked_address_is_the_one_connected_to() -> None:
    names = Names("127.0.0.1")
    with Receiver([answer(200)]) as server:
        port = server.url.rpartition(":")[2]
        assert posted(f"http://hooks.test:{port}/", names=names) == Outcome(200)
    assert names.asked == [("hooks.test", int(port))]
    assert server.received[0].headers["host"] == f"hooks.test:{port}"


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"]]
)
def test_no_connection_is_opened_to_an_address_that_is_not_public(addresses: list[str]) -> None:
    with Receiver([answer(200)]) as server:
        port = server.url.rpartition(":")[2]
        assert posted(f"http://hooks.test:{port}/", PUBLIC_ONLY, Names(*addresses)) == FORBIDDEN
        assert posted(server.url, PUBLIC_ONLY) == FORBIDDEN
    assert server.received == []


@pytest.mark.parametrize("url", ["ftp://hooks.test/", "http://localhost/", "http://0x7f.1/", "nonsense"])
def test_what_is_no_url_to_go_to_fails_for_good(url: str) -> None:
    assert posted(url, PUBLIC_ONLY, Names("8.8.8.8")) == FORBIDDEN


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with Receiver([answer(200)]) as inside, Receiver([answer(status, Location=inside.url)]) as server:
        assert posted(server.url) == Outcome(status)
    assert (len(server.received), len(inside.received)) == (1, 0)


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver([answer(200)]) as proxy, Receiver([answer(200)]) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        posted(server.url)
    assert (len(server.received), len(proxy.received)) == (1, 0)


@pytest.mark.parametrize(("answers", "error"), [([reset], "disconnected"), ([garbage], "no_http_answer")])
def test_broken_answers_are_told_apart(answers: list[Answer], error: str) -> None:
    with Receiver(answers) as server:
        assert posted(server.url) == Outcome(error=error)


def test_retry_after_is_passed_on() -> None:
    with Receiver([answer(429, Retry_After="7")]) as server:
        assert posted(server.url) == Outcome(429, retry_after="7")


def test_nobody_there_and_no_such_name() -> None:
    assert posted(f"http://127.0.0.1:{free_port()}") == Outcome(error="not_connected")
    assert posted("http://hooks.test", names=Names()) == Outcome(error="name_unknown")


def test_the_next_address_is_taken_where_the_first_refuses() -> None:
    with Receiver([answer(200)]) as server:
        port = server.url.rpartition(":")[2]
        assert posted(f"http://hooks.test:{port}/", names=Names("127.0.0.2", "127.0.0.1")) == Outcome(200)


def test_the_certificate_must_be_the_names(tmp_path: Path) -> None:
    shown, trust = server_and_trust("hooks.test", tmp_path)
    with Receiver([answer(200)], tls=shown) as server:
        port = server.url.rpartition(":")[2]
        assert posted(f"https://hooks.test:{port}/", names=Names("127.0.0.1"), trust=trust) == Outcome(200)
        other = posted(f"https://other.test:{port}/", names=Names("127.0.0.1"), trust=trust)
        assert other == Outcome(error="tls")
        assert posted(f"https://hooks.test:{port}/", names=Names("127.0.0.1")) == Outcome(error="tls")
    assert len(server.received) == 1
