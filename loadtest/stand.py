"""The service that a load run puts load on: a whole local stack, and a server that has recordings."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from gateway.keys import Role, line_of, new_secret
from loadtest.recordings import silence
from ops.stack import Stack
from worker.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL_RECORDING_S = 20


@dataclass(frozen=True)
class Stand:
    stack: Stack
    cache: Path
    workers: int
    recording_url: str
    client_key: str
    operator_key: str

    @property
    def worker_names(self) -> list[str]:
        return ["worker", *(f"worker-{number}" for number in range(2, self.workers + 1))]

    def dismiss(self) -> None:
        """Tell all but Redis to end, all at once; the stack tells them in turn, and waits for each."""
        for name in ("flower", "sweeper", *self.worker_names, "gateway"):
            os.kill(self.stack.child(name).pid, signal.SIGTERM)

    def pids(self) -> dict[str, list[int]]:
        """Of each kind of process; a worker's children belong to it."""
        names = {"gateway": ["gateway"], "workers": self.worker_names, "redis": ["redis"]}
        return {kind: [self.stack.child(name).pid for name in named] for kind, named in names.items()}


@contextmanager
def running(folder: Path, workers: int, speed: float) -> Iterator[Stand]:
    """Started in ``folder``, the engine ``simulated`` at ``speed`` times real time. Raises StackError."""
    client, operator = new_secret(), new_secret()
    keys = [line_of("load", client, Role.CLIENT), line_of("watch", operator, Role.OPERATOR)]
    own = {
        "data_dir": folder,
        "cache_dir": folder / "cache",
        "gateway_host": "127.0.0.1",
        "gateway_port": 0,
        "flower_port": 0,
        "api_keys": SecretStr(""),  # else the stack would make one of its own, and take no other
        "api_keys_file": "",
    }
    environment = {
        "ENGINE": "simulated",
        "SIMULATED_SCRIPT": f'{{"speed": {speed}}}',
        "API_KEYS": ",".join(keys),
        "API_KEYS_FILE": "",
        "URL_ALLOW_HOSTS": "127.0.0.1",
    }
    settings = load_settings().model_copy(update=own)
    stack = Stack(settings, print, private=True, workers=workers, environment=environment)
    with recordings_server() as url:
        try:
            stack.start()
            stand = Stand(stack, folder / "cache", workers, url, client, operator)
            yield stand
            stand.dismiss()
        finally:
            stack.stop()


@contextmanager
def recordings_server() -> Iterator[str]:
    """The URL of a recording on loopback."""
    recording = silence(URL_RECORDING_S)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "audio/wav")
            self.send_header("Content-Length", str(len(recording)))
            self.end_headers()
            self.wfile.write(recording)

        def log_message(self, *_: Any) -> None:
            """Silent: hundreds of requests are no news."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/recording.wav"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
