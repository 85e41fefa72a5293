"""docs/client.md: its examples run, and its tables name what there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest

from gateway.client import AsyncClient, Client
from gateway.client.arguments import Exit
from gateway.client.command import main
from gateway.client.requests import JobOptions
from tests.support.service import ROOT, SAMPLE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.stub import Stub

PAGE = (ROOT / "docs/client.md").read_text()
SERVER = "http://127.0.0.1:8000"
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SHELL = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
SAYS = [
    "This is sentence 1 of",
    "sent 953474 of 953474 bytes",
    "# Transcript",
    "00:00:01,000",
    "not_found 404 ",
]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with a recording, and the command on its PATH."""
    shutil.copy(SAMPLE, tmp_path / "standup.wav")
    command = tmp_path / "bin/transcribe"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gateway.client "$@"\n')
    command.chmod(0o755)
    return tmp_path


def run(argv: list[str], desk: Path) -> subprocess.CompletedProcess[str]:
    path = f"{desk / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    return subprocess.run(
        argv, cwd=desk, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(("example", "says"), list(zip(PYTHON, SAYS, strict=True)))
def test_an_example_in_python_runs(example: str, says: str, url: str, stub: Stub, desk: Path) -> None:
    assert SERVER in example
    server = stub.url if "example.org" in example else url
    ran = run([sys.executable, "-c", example.replace(SERVER, server)], desk)
    assert ran.returncode == 0, ran.stderr
    assert says in ran.stdout
    if "standup.md" in example:
        assert "# Transcript" in (desk / "standup.md").read_text()


@pytest.mark.parametrize(("line", "says"), list(zip(SHELL, ["# Transcript", '{"task_id'], strict=True)))
def test_an_example_in_a_shell_runs(line: str, says: str, url: str, stub: Stub, desk: Path) -> None:
    server = stub.url if "--language" in line else url
    line = line.replace("transcribe", f"transcribe --server {server}", 1)
    ran = run(["bash", "-o", "pipefail", "-c", line], desk)
    assert ran.returncode == 0, ran.stderr
    written = desk / "standup.md"
    assert says in (written.read_text() if written.exists() else ran.stdout)


def test_the_command_is_installed_by_its_name() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert EntryPoint("transcribe", scripts["transcribe"], "console_scripts").load() is main


def test_the_tables_name_every_method_option_and_exit_code() -> None:
    methods = {name for name in vars(Client) if not name.startswith("_")} - {"close"}
    assert methods == {name for name in vars(AsyncClient) if not name.startswith("_")} - {"aclose"}
    assert set(re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE)) == methods
    assert set(re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)) == {str(code.value) for code in Exit}
    listed = re.search(r"^Options of `transcribe`: (.*?);", PAGE, re.DOTALL | re.MULTILINE)
    assert listed
    assert set(re.findall(r"`(\w+)`", listed[1])) == set(JobOptions.__annotations__)
    told = run([sys.executable, "-m", "gateway.client", "--help"], ROOT).stdout
    options = set(re.findall(r"^\| `(-[-\w]+)", PAGE, re.MULTILINE))
    assert options == set(re.findall(r"^  (-o|--\w+)", told, re.MULTILINE))
