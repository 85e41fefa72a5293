"""The command ``transcribe`` as a real process: on pipes, and on a terminal that sends Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import wave
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ops.stack import free_port
from tests.client.rogue import answers, breaks_off_after, hangs
from tests.support.service import ROOT, SAMPLE
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.client.stub import Stub
    from tests.support.service import Service

COMMAND = (sys.executable, "-m", "gateway.client")
# A terminal sends Ctrl-C to the processes that it controls: become one before the command begins.
ON_A_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
RESUME = re.compile(r"transcribe --resume ([0-9a-f-]{36})")
KEY = "TRANSCRIPTION_API_KEY"


def transcribe(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def long_recording(tmp_path: Path) -> Path:
    """Half a minute of work for the stack's engine."""
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 1, 8_000, 0, "NONE", ""))
        file.writeframes(bytes([128]) * 8_000 * 1800)
    return path


def task_id_in(text: str) -> str:
    found = re.search(r"job ([0-9a-f-]{36})", text)
    assert found, text
    return found[1]


def test_the_transcript_goes_to_stdout_and_nothing_stays(stack: Service, url: str) -> None:
    ran = transcribe(SAMPLE, "--server", url)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("# Transcribed recording\n")
    task_id = task_id_in(ran.stderr)
    assert ran.stderr.splitlines()[-1] == "completed"
    assert stack.http.get(f"/status/{task_id}").status_code == httpx.codes.GONE


def test_the_transcript_goes_to_a_file_and_the_job_is_kept(stack: Service, url: str, tmp_path: Path) -> None:
    target = tmp_path / "real.json"
    target.write_text("old")
    link = tmp_path / "out.json"
    link.symlink_to(target)
    ran = transcribe(SAMPLE, "-o", link, "--server", url, "--keep")
    assert (ran.returncode, ran.stdout) == (0, "")
    task_id = task_id_in(ran.stderr)
    assert json.loads(target.read_text())["task_id"] == task_id
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "real.json"]
    again = transcribe("--resume", task_id, "--fmt", "md", "--server", url)
    assert again.stdout.startswith("# Transcribed recording\n")
    assert stack.http.get(f"/status/{task_id}").status_code == httpx.codes.GONE


def test_a_url_and_the_formats_to_come(stub: Stub, tmp_path: Path) -> None:
    ran = transcribe("https://example.org/a.mp3", "-o", tmp_path / "a.srt", "--server", stub.url)
    assert ran.returncode == 0, ran.stderr
    assert "00:00:00,000" in (tmp_path / "a.srt").read_text()
    assert stub.requests[0][4] == {"url": "https://example.org/a.mp3"}
    ran = transcribe("HTTP://example.org/a.mp3", "--language", "de", "--fmt", "vtt", "--server", stub.url)
    assert ran.stdout.startswith("WEBVTT")
    assert stub.jobs == {}


def test_the_key_comes_from_the_environment_and_is_not_shown(rogue: Callable[..., Any]) -> None:
    server = rogue(answers(401, b'{"code": "unauthorized", "detail": "who are\\u001b[2J you?"}'))
    ran = transcribe(SAMPLE, "--server", server.url, **{KEY: "s3cret"})
    assert ran.returncode == 1
    assert server.visits[0].headers["authorization"] == "Bearer s3cret"
    assert "s3cret" not in ran.stdout + ran.stderr
    assert "unauthorized" in ran.stderr
    assert KEY in ran.stderr
    assert "\x1b" not in ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (SAMPLE, "--resume", "x"),
        ("/nowhere/a.wav",),
        (ROOT,),
        (SAMPLE, "--fmt", "pdf"),
        (SAMPLE, "--server", "localhost"),
        (SAMPLE, "-o", "/nowhere/a.md"),
        (SAMPLE, "-o", ROOT),
    ],
)
def test_wrong_usage_is_told_before_anything_is_sent(arguments: tuple[str, ...]) -> None:
    ran = transcribe(*arguments)
    assert ran.returncode == 2
    assert "transcribe: error: " in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_bad_key_is_told_without_it() -> None:
    ran = transcribe(SAMPLE, **{KEY: "s3cret key"})
    assert ran.returncode == 2
    assert "s3cret" not in ran.stderr


def test_a_refused_and_a_failed_recording(url: str, tmp_path: Path) -> None:
    empty = tmp_path / "no.wav"
    empty.touch()
    ran = transcribe(empty, "--server", url)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "empty_recording" in ran.stderr

    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF\xa0\x0f\x00\x00WAVE" + b"this is no sound at all " * 100)
    ran = transcribe(broken, "-o", tmp_path / "out.md", "--server", url)
    assert ran.returncode == 1
    assert "the job has failed: " in ran.stderr
    assert "(not_audio)" in ran.stderr
    assert not (tmp_path / "out.md").exists()


def test_a_server_that_is_away(rogue: Callable[..., Any]) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    ran = transcribe(SAMPLE, "--server", nowhere)
    assert ran.returncode == 3
    assert "trying again" in ran.stderr
    assert f"{nowhere} (--server)" in ran.stderr
    assert "the service has not taken the recording" in ran.stderr
    ran = transcribe(SAMPLE, "--server", rogue(answers(202, b"<html>")).url)
    assert ran.returncode == 3
    assert "is this the transcription service?" in ran.stderr


def test_a_transcript_that_cannot_be_written_leaves_the_job(stack: Service, url: str, tmp_path: Path) -> None:
    no_file = [
        "bash",
        "-c",
        'ulimit -f 0; exec "$@"',
        "bash",
        *COMMAND,
    ]  # a disk that is full, for one process
    argv = [*no_file, str(SAMPLE), "-o", str(tmp_path / "out.md"), "--server", url]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 4
    assert "File too large" in ran.stderr
    assert list(tmp_path.iterdir()) == []
    found = RESUME.search(ran.stderr)
    assert found
    assert stack.status(found[1])["status"] == "completed"

    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        [*COMMAND, "--resume", found[1], "--server", url], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE
    ) as process:
        os.close(writer)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 4
    assert b"Broken pipe" in told
    assert b"Exception" not in told
    stack.http.delete(f"/release/{found[1]}")


def test_what_is_no_regular_file_is_written_as_it_is(stub: Stub, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.md"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as cat:
        assert transcribe("https://example.org/a.mp3", "-o", pipe, "--server", stub.url).returncode == 0
        assert cat.communicate(timeout=20)[0] == b"# Transcript\n"
    assert pipe.is_fifo()


def test_a_signal_without_a_terminal_says_how_to_go_on(
    stack: Service, url: str, long_recording: Path
) -> None:
    process = subprocess.Popen(
        [*COMMAND, long_recording, "--server", url],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        task_id = task_id_in(process.stderr.readline())
        stack.wait_for(task_id, "processing")
        process.send_signal(signal.SIGINT)
        out, told = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert f"transcribe --resume {task_id}" in told
    assert "Cancel the job" not in told
    assert stack.status(task_id)["status"] == "processing"
    stack.http.delete(f"/release/{task_id}")


@pytest.mark.parametrize(
    ("step", "told"), [(breaks_off_after(0), "has not taken"), (hangs, "may have taken")]
)
def test_a_signal_before_the_answer_says_what_is_known(
    rogue: Callable[..., Any], tmp_path: Path, step: Any, told: str
) -> None:
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.truncate(20_000_000)
    server = rogue(step)
    argv = [*COMMAND, str(path), "--server", server.url]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_until(lambda: server.visits and complete(server.visits[0], step), 20, "the recording to arrive")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert told in said.decode()


def complete(visit: Any, step: Any) -> bool:
    return step is not hangs or len(visit.body) == int(visit.headers["content-length"])


@dataclass
class Terminal:
    """What a command shows on a terminal, and a keyboard."""

    process: subprocess.Popen[bytes]
    master: int
    shown: str = ""
    _bytes: bytearray = field(default_factory=bytearray)

    def shows(self, pattern: str) -> bool:
        return re.search(pattern, self.read()) is not None

    def read(self) -> str:
        with suppress(BlockingIOError, OSError):  # EIO: the other end is closed
            while data := os.read(self.master, 65536):
                self._bytes += data
        return self._bytes.decode(errors="replace")

    def wait(self, pattern: str) -> None:
        try:
            wait_until(lambda: self.shows(pattern), 30, f"the terminal to show {pattern}")
        except AssertionError as exc:
            raise AssertionError(f"{exc}; it shows {self.read()[-2000:]}") from exc

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def end(self) -> int:
        wait_until(lambda: self.read() is not None and self.process.poll() is not None, 30, "the end")
        self.read()
        return self.process.returncode


@contextmanager
def terminal(*arguments: str | Path) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *COMMAND, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        os.close(master)


def test_bars_show_upload_and_steps(url: str) -> None:
    with terminal(SAMPLE, "--server", url) as screen:
        assert screen.end() == 0
    for text in (r"upload 1\.0 MB", r"job [0-9a-f-]{36}", "completed", "# Transcribed recording"):
        assert screen.shows(text), screen.read()


def test_ctrl_c_asks_and_cancels(stack: Service, url: str, long_recording: Path) -> None:
    with terminal(long_recording, "--server", url) as screen:
        screen.wait(r"simulate \(2 of 2\)")
        screen.type("\x03")
        screen.wait("Cancel the job")
        screen.type("y\n")
        assert screen.end() == 130
        assert screen.shows("the job is cancelled")
    status = stack.status(task_id_in(screen.read()))
    assert status["error"]["code"] == "cancelled"


def test_ctrl_c_twice_quits_and_leaves_the_job(stack: Service, url: str, long_recording: Path) -> None:
    with terminal(long_recording, "--server", url) as screen:
        screen.wait(r"simulate \(2 of 2\)")
        screen.type("\x03")
        screen.wait("Cancel the job")
        screen.type("\x03")
        assert screen.end() == 130
    task_id = task_id_in(screen.read())
    assert screen.shows(f"transcribe --resume {task_id}")
    assert stack.status(task_id)["status"] == "processing"
    stack.http.delete(f"/release/{task_id}")


def test_ctrl_c_and_no_goes_on_to_the_end(stub: Stub) -> None:
    stub.ends_at_once = False
    with terminal("https://example.org/a.mp3", "--server", stub.url) as screen:
        screen.wait("waiting")
        screen.type("\x03")
        screen.wait("Cancel the job")
        screen.type("\n")
        (task_id,) = stub.jobs
        stub.move(task_id, "completed")
        assert screen.end() == 0
        assert screen.shows("# Transcript")


def test_a_job_that_ends_while_the_question_stands_is_delivered(stub: Stub) -> None:
    stub.ends_at_once = False
    with terminal("https://example.org/a.mp3", "--server", stub.url) as screen:
        screen.wait("waiting")
        screen.type("\x03")
        screen.wait("Cancel the job")
        (task_id,) = stub.jobs
        stub.move(task_id, "completed")
        screen.type("y\n")
        assert screen.end() == 0
        assert screen.shows("# Transcript")


def test_the_exit_codes_are_told() -> None:
    told = transcribe("--help").stdout
    assert re.findall(r"^  (\d+) ", told, re.MULTILINE) == ["0", "1", "2", "3", "4", "130"]
