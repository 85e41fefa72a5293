"""The client, in both forms, against the service as it runs."""

from __future__ import annotations

import logging
import subprocess
import sys
import uuid
import wave
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gateway.client import ApiError, State
from tests.client.rogue import answers
from tests.support.service import ROOT, SAMPLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.service import Service

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@contextmanager
def refusal(code: str) -> Iterator[pytest.ExceptionInfo[ApiError]]:
    with pytest.raises(ApiError) as refused:
        yield refused
    assert refused.value.code == code


def silence(path: Path, minutes: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        for _ in range(minutes):
            file.writeframes(bytes(2 * 16_000 * 60))
    return path


def test_a_recording_goes_in_and_its_transcript_comes_out(
    connect: Callable[..., Any], url: str, tmp_path: Path
) -> None:
    client = connect(url)
    sent: list[tuple[int, int | None]] = []
    seen: list[Any] = []
    job = client.transcribe(SAMPLE, priority="high", progress=lambda *news: sent.append(news))
    size = SAMPLE.stat().st_size
    assert job.status is State.PENDING
    assert sent[0] == (0, size)
    assert sent[-1] == (size, size)
    assert sorted(sent) == sent

    status = client.wait(job.task_id, progress=seen.append)
    assert status == seen[-1]
    assert status.status is State.COMPLETED
    assert status.attempt == 1
    assert status.created_at.tzinfo is not None
    assert status.expires_at > status.ended_at > status.created_at

    document = client.document(job.task_id)
    assert document.engine == "simulated"
    assert document.segments[0].end > document.segments[0].start == 0
    assert client.download(job.task_id, "md").startswith("# Transcribed recording")
    client.download_to(job.task_id, tmp_path / "out.md")
    assert (tmp_path / "out.md").read_text() == client.download(job.task_id, "md")
    client.download_to(job.task_id, tmp_path / "out", "json")
    assert (tmp_path / "out").read_text() == client.download(job.task_id, "json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.md"]

    assert client.release(job.task_id) is True
    with refusal("gone"):
        client.status(job.task_id)


def test_a_running_job_is_followed_and_cancelled(
    connect: Callable[..., Any], url: str, tmp_path: Path
) -> None:
    client = connect(url)
    job = client.transcribe(silence(tmp_path / "long.wav", 20))

    class Seen(Exception):
        pass

    def until_processing(status: Any) -> None:
        if status.progress is not None:
            raise Seen(status)

    with pytest.raises(Seen):
        client.wait(job.task_id, timeout_s=30, progress=until_processing)
    with refusal("not_finished") as refused:
        client.download(job.task_id)
    assert refused.value.retry_after_s is not None
    assert client.queue().processing == 1
    assert client.cancel(job.task_id) is True

    status = client.wait(job.task_id, timeout_s=10)
    assert status.status is State.FAILED
    assert status.error.code == "cancelled"
    with refusal("job_failed"):
        client.download(job.task_id)
    client.release(job.task_id)


def test_one_key_makes_one_job_and_it_is_listed(connect: Callable[..., Any], url: str) -> None:
    client = connect(url)
    key = str(uuid.uuid4())
    first, second = (client.transcribe(SAMPLE, idempotency_key=key) for _ in range(2))
    assert first.task_id == second.task_id
    client.wait(first.task_id)
    assert first.task_id in {job.task_id for job in client.jobs(State.COMPLETED)}
    client.release(first.task_id)
    assert first.task_id not in {job.task_id for job in client.jobs()}


@pytest.mark.parametrize("call", ["status", "download", "release", "cancel"])
@pytest.mark.parametrize("task_id", [UNKNOWN, "no/such?job#", "ü"])
def test_what_is_not_there(connect: Callable[..., Any], url: str, call: str, task_id: str) -> None:
    with refusal("not_found"):
        getattr(connect(url), call)(task_id)


def test_a_refusal_reaches_a_client_that_is_still_sending(
    connect: Callable[..., Any], url: str, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
    with refusal("invalid_request"):  # fields go before the recording, and are judged where it begins
        connect(url).transcribe(path, language="none of them")


@pytest.mark.parametrize(
    "name", ['a "b" c.wav', "Büro ☕.wav", "line\nend.wav", "back\\slash.wav", "\udcff.wav"]
)
def test_any_file_name_goes_through(connect: Callable[..., Any], url: str, tmp_path: Path, name: str) -> None:
    client = connect(url)
    path = tmp_path / name
    path.write_bytes(SAMPLE.read_bytes())
    job = client.transcribe(path)
    assert client.wait(job.task_id).status is State.COMPLETED
    client.release(job.task_id)


def test_an_open_file_and_a_pipe(connect: Callable[..., Any], url: str) -> None:
    client = connect(url)
    with SAMPLE.open("rb") as file:
        jobs = [client.transcribe(file).task_id]
    with subprocess.Popen(["cat", SAMPLE], stdout=subprocess.PIPE) as cat:
        jobs.append(client.transcribe(cat.stdout).task_id)
    documents = [client.document(job) for job in jobs if client.wait(job).status is State.COMPLETED]
    assert documents[0].segments == documents[1].segments
    for job in jobs:
        client.release(job)


def test_memory_stays_flat(url: str, tmp_path: Path) -> None:
    """In a process of its own: one GB is sent, and its peak does not show it."""
    path = tmp_path / "gigabyte.wav"
    with path.open("wb") as file:
        file.write(SAMPLE.read_bytes()[:44])
        file.truncate(1_000_000_000)
    code = (
        "import re, sys\n"
        "from gateway.client import Client\n"
        "client = Client(sys.argv[1])\n"
        "client.release(client.transcribe(sys.argv[2]).task_id)\n"
        # Not getrusage: its peak begins with that of the process that started this one.
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
    )
    argv = [sys.executable, "-c", code, url, str(path)]
    peak_kib = int(subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, timeout=120).stdout)
    assert peak_kib < 150 * 1024


def test_the_key_is_sent_and_never_shown(
    connect: Callable[..., Any], rogue: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    server = rogue(answers(401))
    client = connect(server.url, "s3cret-key")
    with pytest.raises(ApiError) as refused:
        client.queue()
    assert server.visits[0].headers["authorization"] == "Bearer s3cret-key"
    shown = [repr(client), str(refused.value), repr(refused.value), caplog.text]
    assert not any("s3cret" in text for text in shown)
    for key in ("s3cret\nX-Other: 1", "s3cret key", "", "s3cretü"):
        with pytest.raises(ValueError, match="API key") as caught:
            connect(server.url, key)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("base_url", ["", "localhost:8000", "ftp://x", "http://", "/x"])
def test_a_base_url_that_is_none(connect: Callable[..., Any], base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        connect(base_url)


def test_a_path_before_the_apis(connect: Callable[..., Any], rogue: Callable[..., Any]) -> None:

    server = rogue(answers(404))
    with pytest.raises(ApiError):
        connect(f"{server.url}/speech/").queue()
    assert server.visits[0].path == "/speech/queue"


def test_it_needs_httpx_alone(stack: Service, url: str) -> None:
    """Nothing of the server's comes in with it, whatever is installed here."""
    code = (
        "import sys\n"
        "import httpx, anyio, anyio._backends._asyncio\n"
        "httpx_alone = {name.partition('.')[0] for name in sys.modules}\n"
        "from gateway.client import Client\n"
        "client = Client(sys.argv[1])\n"
        "client.wait(client.transcribe(sys.argv[2]).task_id)\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*sorted(loaded - httpx_alone - sys.stdlib_module_names))\n"
        "ours = [name for name in sys.modules if name.startswith(('gateway.', 'worker'))]\n"
        "print(*[name for name in ours if not name.startswith('gateway.client')])\n"
    )
    argv = [sys.executable, "-c", code, url, str(SAMPLE)]
    ran = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    new, *others = ran.stdout.splitlines()
    assert set(new.split()) <= {"gateway", "httpcore", "h11", "certifi"}
    assert [line for line in others if line] == []
