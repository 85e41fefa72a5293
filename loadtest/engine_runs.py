"""Runs of bench_engine.py: one side, one recording, in a process of its own.

    python -m loadtest.engine_runs SIDE PATH THREADS     one line of JSON, the fields of Ran

    attempt  a whole attempt of the service at a job that lies in its cache: claim, conversion check, engine
             with progress reports, cancel checks and checkpoints, result, commit; on an embedded server that
             fsyncs each command, with Celery's results. Gateway, Celery's own task handling and the worker
             parent's lease (a command every few seconds) are not in it
    bare     the engine alone, nothing reported or kept
    plain    WhisperModel(folder, device="cpu", compute_type="int8").transcribe(path) with its defaults

All have done a second of silence before, so that nobody pays for imports and first connections.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import wave
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import redis

from ops.stack import free_port, redis_argv
from worker import streams
from worker.app import create_app
from worker.attempt import Attempt
from worker.engines.checkpoints import NO_CHECKPOINTS
from worker.engines.protocol import Checkpoints, Options, Transcript
from worker.engines.whisper import WhisperEngine
from worker.engines.whisper_model import bundled_folder
from worker.jobs import JobRecord, JobState, new_task_id
from worker.logs import configure_logging
from worker.settings import Settings
from worker.streams.keys import QueueKeys, lease_id
from worker.tasks import TRANSCRIBE_QUEUE
from worker.tools import Tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RATE_HZ = 16_000


@dataclass(frozen=True)
class Ran:
    """``service_s`` of ``wall_s`` went by outside the engine, or in what it calls of the service."""

    wall_s: float
    text: str
    peak_mb: float = 0.0
    service_s: float = 0.0


@dataclass
class Clocked:
    """The engine, with a clock on itself and on what it calls of the service."""

    engine: WhisperEngine
    name: str = "whisper"
    inside_s: float = 0.0
    called_s: float = 0.0
    text: str = ""

    def transcribe(
        self, recording: Path, options: Options, report: Any, check: Any, checkpoints: Checkpoints
    ) -> Transcript:
        started = time.perf_counter()
        made = self.engine.transcribe(
            recording, options, self.clock(report), self.clock(check), ClockedCheckpoints(self, checkpoints)
        )
        self.inside_s = time.perf_counter() - started
        self.text = text_of(made)
        return made

    def clock(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def clocked(*arguments: object, **named: object) -> Any:
            started = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self.called_s += time.perf_counter() - started

        return clocked


@dataclass(frozen=True)
class ClockedCheckpoints:
    clocked: Clocked
    inner: Checkpoints

    def keyed(self, **identity: object) -> ClockedCheckpoints:
        return ClockedCheckpoints(self.clocked, self.inner.keyed(**identity))

    def load(self, name: str) -> Any | None:
        return self.clocked.clock(self.inner.load)(name)

    def save(self, name: str, value: Any) -> None:
        self.clocked.clock(self.inner.save)(name, value)


class ClockedTools(Tools):
    """A worker's child's, with an engine of the bench."""

    def __init__(self, app: Any, settings: Settings, engine: WhisperEngine) -> None:
        super().__init__(app, settings)
        self.clocked = Clocked(engine)
        self.broker = redis.Redis.from_url(settings.redis_url.get_secret_value())
        self.stream = QueueKeys(TRANSCRIBE_QUEUE).main
        self.broker.xgroup_create(self.stream, streams.GROUP, id="0", mkstream=True)
        self._backend = app.backend

    def engine(self, name: str) -> Any:  # noqa: ARG002  there is one
        return self.clocked

    def attempt(self, recording: Path) -> Attempt:
        """A job whose recording lies in the cache, delivered."""
        task_id = new_task_id()
        folder = self.cache.folder(task_id)
        folder.create()
        os.link(recording, folder.input)
        size_bytes = recording.stat().st_size
        job = JobRecord(id=task_id, state=JobState.WAITING, created_at=time.time(), size_bytes=size_bytes)
        self.store.accept(job, max_waiting=10)
        entry_id = cast("bytes", self.broker.xadd(self.stream, {"m": "{}"})).decode()
        self.broker.xreadgroup(streams.GROUP, "bench", {self.stream: ">"})
        request = SimpleNamespace(
            id=task_id, lease_id=lease_id(entry_id, self.stream), attempt=1, retries=0, hostname="w@bench"
        )

        def update_state(*, state: str, meta: dict[str, Any]) -> None:
            self._backend.store_result(task_id, meta, state)

        return Attempt(self, SimpleNamespace(request=request, update_state=update_state))


def run_attempt(recording: Path, silence: Path, threads: int) -> Ran:
    with tempfile.TemporaryDirectory(dir=recording.parent) as folder, server(Path(folder)) as url:
        settings = Settings(
            _env_file=None,
            redis_url=url,
            cache_dir=Path(folder) / "cache",
            engine="whisper",
            log_format="json",
        )
        configure_logging(settings, "bench")
        engine = WhisperEngine(device="cpu", threads=threads)
        tools = ClockedTools(create_app(settings), settings, engine)
        tools.attempt(silence).carry_out()
        tools.clocked = clocked = Clocked(engine)
        attempt = tools.attempt(recording)
        started = time.perf_counter()
        attempt.carry_out()
        wall_s = time.perf_counter() - started
    return Ran(wall_s, clocked.text, service_s=wall_s - clocked.inside_s + clocked.called_s)


def run_bare(recording: Path, silence: Path, threads: int) -> Ran:
    engine = WhisperEngine(device="cpu", threads=threads)

    def transcribe(path: Path) -> str:
        return text_of(
            engine.transcribe(path, Options(), lambda _progress: None, lambda: None, NO_CHECKPOINTS)
        )

    transcribe(silence)
    started = time.perf_counter()
    text = transcribe(recording)
    return Ran(time.perf_counter() - started, text)


def run_plain(recording: Path, silence: Path, threads: int) -> Ran:
    from faster_whisper import WhisperModel  # noqa: PLC0415  of this side alone

    model = WhisperModel(str(bundled_folder()), device="cpu", compute_type="int8", cpu_threads=threads)

    def transcribe(path: Path) -> str:
        return " ".join(one.text for one in model.transcribe(str(path))[0])

    transcribe(silence)
    started = time.perf_counter()
    text = transcribe(recording)
    return Ran(time.perf_counter() - started, text)


SIDES = {"attempt": run_attempt, "bare": run_bare, "plain": run_plain}


def text_of(transcript: Transcript) -> str:
    return " ".join(one.transcript for one in transcript.segments)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    port = free_port()
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(redis_argv(port, folder), stdout=log, stderr=log)
    try:
        await_server(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def await_server(port: int) -> None:
    deadline = time.monotonic() + 10
    with redis.Redis(port=port) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return


def write_silence(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(bytes(2 * RATE_HZ))
    return path


def run(side: str, recording: Path, threads: int) -> Ran:
    """Run ``side`` in a process of its own, whose memory nothing else has touched."""
    # ru_maxrss survives fork and exec, so the child is born of a small process: env, not of this one.
    command = ["env", sys.executable, "-m", "loadtest.engine_runs", side, str(recording), str(threads)]
    done = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{side} failed on {recording.name}:\n{done.stderr[-4000:]}")
    return Ran(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    side, recording, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory(dir=recording.parent) as folder:
        ran = SIDES[side](recording, write_silence(Path(folder) / "silence.wav"), threads)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # KiB on Linux
    print(json.dumps({**asdict(ran), "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
