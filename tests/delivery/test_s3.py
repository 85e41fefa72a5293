"""Deliveries to a real S3 server over HTTP, and to servers that misbehave."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from ops.stack import free_port
from tests.delivery.receivers import Receiver, answer, garbage, hang, reset
from tests.support.waiting import wait_until
from worker.delivery.bucket import Bucket, Locations, checked_s3_path, object_keys
from worker.delivery.document import Document, Segment
from worker.delivery.markdown import to_markdown
from worker.delivery.s3 import create_client, deliver, failed_for_good, wait_s
from worker.errors import BadRequest, DeliveryFailed, DeliveryInterrupted, JobError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.delivery.receivers import Answer

SECRET = "s3cr3t-s3cr3t"  # noqa: S105  of a test's server
BUCKET = Bucket("results", "AKIATEST", SecretStr(SECRET), connect_timeout_s=1, read_timeout_s=1)
DOCUMENT = Document(
    task_id="t",
    engine="e",
    model="m",
    duration_s=1,
    segments=[Segment(start=0, end=1, transcript="Grüße & “Küsse”.")],
)
DENIED = b"<Error><Code>AccessDenied</Code><Message>key AKIATEST of s3cr3t-s3cr3t</Message></Error>"
MISSING = b"<Error><Code>NoSuchBucket</Code><Message>no such bucket</Message></Error>"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path_factory.mktemp("s3") / "log").open("ab") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log)
    wait_until(lambda: _listens(port), 30, "the S3 server to listen")
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(10)


@pytest.fixture
def stored(endpoint: str) -> Any:
    """A client of its own making on the real server, with the bucket in place."""
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",  # noqa: S106  of a test's server
    )
    s3.create_bucket(Bucket=BUCKET.name)
    yield s3
    s3.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def delivered(endpoint: str, bucket: Bucket = BUCKET, path: str = "2026/meeting") -> list[str]:
    """Deliver without waiting between tries."""
    bucket = replace(bucket, endpoint_url=endpoint)
    return deliver(DOCUMENT, object_keys(bucket, "ann", path), create_client(bucket), wait=lambda _s: None)


def refused(answers: list[Answer], error: type[JobError]) -> tuple[str, int]:
    """The message, and how often the server was asked."""
    with Receiver(answers) as server:
        with pytest.raises(error) as caught:
            delivered(server.url)
        assert SECRET not in str(caught.value)
        assert "AKIATEST" not in str(caught.value)
        return caught.value.message, len(server.received)


def test_both_renderings_arrive_whole_and_say_what_they_are(endpoint: str, stored: Any) -> None:
    urls = delivered(endpoint, replace(BUCKET, prefix="team/out"), "2026/Sitzung ä+%.1")
    base = "team/out/ann/2026/Sitzung ä+%.1"
    assert urls == [f"s3://results/{base}.json", f"s3://results/{base}.md"]
    as_json, as_markdown = (
        stored.get_object(Bucket="results", Key=f"{base}.{end}") for end in ("json", "md")
    )
    assert as_json["ContentType"] == "application/json"
    assert as_markdown["ContentType"] == "text/markdown; charset=utf-8"
    assert json.loads(as_json["Body"].read()) == DOCUMENT.model_dump()
    assert as_markdown["Body"].read().decode() == to_markdown(DOCUMENT)


def test_delivering_again_replaces_what_was_there(endpoint: str, stored: Any) -> None:
    assert delivered(endpoint, path="twice") == delivered(endpoint, path="twice")
    assert stored.list_objects_v2(Bucket="results", Prefix="ann/twice")["KeyCount"] == 2


def test_a_missing_bucket_is_final_on_a_real_server(endpoint: str) -> None:
    with pytest.raises(DeliveryFailed, match=r"NoSuchBucket, status 404"):
        delivered(endpoint, replace(BUCKET, name="nowhere"))


def test_no_setting_of_aws_but_ours_has_a_say(
    endpoint: str, stored: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("[profile other]\nregion = mars\nendpoint_url = http://127.0.0.1:9\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "missing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "theirs")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "7")
    assert len(delivered(endpoint)) == 2
    assert create_client(BUCKET).meta.endpoint_url == "https://s3.amazonaws.com"  # type: ignore[attr-defined]
    assert refused([answer(503)], DeliveryInterrupted)[1] == 3


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([answer(403, DENIED)], "AccessDenied, status 403"),
        ([answer(403, b"<Error><Code>")], "status 403"),
        ([answer(404, MISSING)], "NoSuchBucket, status 404"),
        ([answer(301, b"<Error><Code>PermanentRedirect</Code></Error>")], "PermanentRedirect, status 301"),
        ([answer(403, f"<Error><Code>{SECRET} &lt;b&gt;</Code></Error>".encode())], "status 403"),
    ],
)
def test_what_an_operator_must_mend_is_tried_once(answers: list[Answer], reason: str) -> None:
    message, asked = refused(answers, DeliveryFailed)
    assert message == f"the bucket refused the result: {reason}"
    assert asked == 1


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([answer(503, b"<Error><Code>SlowDown</Code></Error>")], "SlowDown, status 503"),
        ([answer(500)], "status 500"),
        ([answer(502, b"<html>bad gateway")], "status 502"),
        ([answer(429)], "status 429"),
        ([answer(400, b"<Error><Code>RequestTimeout</Code></Error>")], "RequestTimeout, status 400"),
        ([reset], "no answer (ConnectionClosedError)"),
        ([garbage], "no answer"),
        ([hang], "no answer (ReadTimeoutError)"),
    ],
)
def test_what_passes_by_itself_is_tried_three_times(answers: list[Answer], reason: str) -> None:
    message, asked = refused(answers, DeliveryInterrupted)
    assert message.startswith("the bucket could not be reached in 3 tries (last: ")
    assert reason in message
    assert asked == 3


def test_a_server_that_is_not_there_is_passing() -> None:
    with pytest.raises(DeliveryInterrupted, match="EndpointConnectionError"):
        delivered(f"http://127.0.0.1:{free_port()}")


def test_a_server_that_recovers_gets_both_with_growing_waits_between() -> None:
    waits: list[float] = []
    with Receiver([reset, answer(503), answer(200), answer(200)]) as server:
        bucket = replace(BUCKET, endpoint_url=server.url)
        deliver(DOCUMENT, object_keys(bucket, "ann", "x"), create_client(bucket), wait=waits.append)
    assert waits == [1, 4]
    assert [request.path for request in server.received] == ["/results/ann/x.md"] * 3 + [
        "/results/ann/x.json"
    ]


def test_the_json_is_not_there_before_the_markdown() -> None:
    with Receiver([answer(200), answer(403, DENIED)]) as server, pytest.raises(DeliveryFailed):
        delivered(server.url)
    assert [request.path.rpartition(".")[2] for request in server.received] == ["md", "json"]


def test_a_wait_may_raise_to_give_up() -> None:
    def cancelled(_seconds: float) -> None:
        raise KeyboardInterrupt

    with Receiver([answer(503)]) as server:
        bucket = replace(BUCKET, endpoint_url=server.url)
        with pytest.raises(KeyboardInterrupt):
            deliver(DOCUMENT, object_keys(bucket, "ann", "x"), create_client(bucket), wait=cancelled)
    assert len(server.received) == 1


def test_the_secret_is_in_no_repr() -> None:
    assert SECRET not in repr(BUCKET)


@pytest.mark.parametrize(
    ("passing", "tries", "good"), [(True, 1, False), (True, 2, False), (True, 3, True), (False, 1, True)]
)
def test_when_a_delivery_has_failed_for_good(passing: bool, tries: int, good: bool) -> None:
    assert failed_for_good(passing=passing, tries=tries, most=3) is good


def test_waits_grow_fourfold() -> None:
    assert [wait_s(tries) for tries in (1, 2, 3)] == [1, 4, 16]


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("", "must not be empty"),
        ("/a", "begin with a slash"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("a/../b", r"parts \. or \.\."),
        ("..", r"parts \. or \.\."),
        ("./a", r"parts \. or \.\."),
        ("a\\b", "backslashes"),
        ("a\nb", "control"),
        ("a\0", "control"),
        ("a\x7f", "control"),
        ("a\u2028", "control"),
        ("\ud800", "control"),
        ("ä" * 257, "512 bytes"),
    ],
)
def test_paths_that_are_refused(path: str, fault: str) -> None:
    with pytest.raises(BadRequest, match=f"^s3_path: .*{fault}"):
        checked_s3_path(path)


@pytest.mark.parametrize("path", ["a", "a b/c..d/..e", "ä" * 256, "…/日本", ".hidden", "a.json"])
def test_paths_that_are_taken_as_they_are(path: str) -> None:
    assert checked_s3_path(path) == path


@given(st.text())
def test_a_path_that_is_taken_stays_under_its_owner(path: str) -> None:
    try:
        found = object_keys(BUCKET, "ann", path)
    except BadRequest:
        return
    assert found == Locations("results", f"ann/{path}.json", f"ann/{path}.md")
    assert not {"", ".", ".."} & set(found.json_key.split("/"))


@pytest.mark.parametrize("owner", ["", "..", "a/b", "a\\b", "a\n"])
def test_an_owner_is_one_part_of_the_key(owner: str) -> None:
    with pytest.raises(BadRequest, match=r"^owner: "):
        object_keys(BUCKET, owner, "x")


def test_a_whole_key_fits_s3() -> None:
    long = replace(BUCKET, prefix="p" * 505)
    assert len(object_keys(long, "ann", "x" * 509).json_key) == 1024
    with pytest.raises(BadRequest, match=r"^s3_path: .*1024"):
        object_keys(long, "ann", "x" * 510)
