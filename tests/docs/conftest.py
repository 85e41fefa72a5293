"""A stack that the pages' commands talk to, and a desk that they are typed at."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import ROOT
from tests.support.service import SAMPLE, Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.service import Process


@dataclass(frozen=True)
class Stack:
    service: Service
    worker: Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    def completed(self) -> str:
        task_id = self.service.submit()
        self.service.wait_for(task_id, "completed")
        return task_id

    @contextmanager
    def nobody_works(self) -> Iterator[None]:
        """So that a job waits for as long as a page wants it to."""
        self.worker.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.worker.signal(signal.SIGCONT)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {"ENGINE": "simulated", "SIMULATED_SCRIPT": '{"speed": 600}'}
    service = Service(tmp_path_factory.mktemp("docs"), settings)
    try:
        yield Stack(service, service.start_all())
    finally:
        service.end()


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder like a checkout's root, with recordings in it and our commands on its PATH."""
    for name in ("standup.wav", "standup.mp3"):  # what it is shows in a recording's content, not in its name
        shutil.copy(SAMPLE, tmp_path / name)
    for name in ("tests", ".env.example"):
        (tmp_path / name).symlink_to(ROOT / name)
    for folder in ("bin", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
        write_command(tmp_path / folder / "python", '"$@"')
        write_command(tmp_path / folder / "transcribe", '-m gateway.client --server "$SERVICE_URL" "$@"')
    return tmp_path


def write_command(path: Path, arguments: str) -> None:
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}\n')
    path.chmod(0o755)


@pytest.fixture
def environment(stack: Stack, desk: Path) -> dict[str, str]:
    path = f"{desk / 'bin'}{os.pathsep}{os.environ['PATH']}"
    ours = {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "SERVICE_URL": stack.url}
    return {**stack.service.environment, **ours}
