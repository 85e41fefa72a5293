"""What pages name within their sentences is there: commands, make's targets, files, settings, services."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache

import pytest
import yaml

from tests.docs.pages import ROOT, all_pages, blocks, prose
from worker.settings import Settings

NAMED = sorted(
    {name for page in all_pages() for line in prose(page) for name in re.findall(r"`([^`]+)`", line)}
)
MAKEFILE = (ROOT / "Makefile").read_text()
COMPOSE = {
    file: yaml.safe_load((ROOT / file).read_text()) for file in ("compose.cpu.yaml", "compose.gpu.yaml")
}
COMPOSE_SETTINGS = set(re.findall(r"\$\{([A-Z_]+)", "".join((ROOT / file).read_text() for file in COMPOSE)))
OF_OTHERS = {
    "COMPOSE_FILE",
    "CUDA_VISIBLE_DEVICES",
    "DECODING_REVISION",  # a constant of ours
    "FORWARDED_ALLOW_IPS",
    "HF_HUB_OFFLINE",
    "LD_LIBRARY_PATH",
    "PR_SET_PDEATHSIG",
    "PYANNOTE_METRICS_ENABLED",
}
# Of the client, of load tests: they read no Settings.
READ_BY_SCRIPTS = {
    name
    for folder in ("gateway", "loadtest")
    for path in (ROOT / folder).rglob("*.py")
    for name in re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', path.read_text())
}


def named(pattern: str) -> list[str]:
    """What the pattern's one group catches."""
    return sorted({found[1] for name in NAMED if (found := re.match(pattern, name))})


@pytest.mark.parametrize("target", named(r"make ([a-z-]+)"))
def test_make_has_the_target(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("command", named(r"python -m ((?:ops|worker) [a-z]+(?: [a-z|]+)?)"))
def test_the_command_is_there(command: str) -> None:
    module, name, *actions = command.replace("|", " ").split()
    assert re.search(rf"\b{name}\b", help_of(module))
    assert all(action in help_of(module, name) for action in actions)


@cache
def help_of(module: str, *command: str) -> str:
    argv = [sys.executable, "-m", module, *command, "--help"]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "service", named(r"docker compose (?:\S+ )*?(?:logs|restart|stop|exec|run) ([a-z]+)")
)
def test_the_stack_has_the_service(service: str) -> None:
    assert all(service in file["services"] for file in COMPOSE.values())


def test_what_a_page_changes_of_the_stack_is_there() -> None:
    changes = [yaml.safe_load(b.text) for b in blocks("docs/operations.md") if b.language == "yaml"]
    assert changes
    for part in ("services", "volumes"):
        named_there = {name for change in changes for name in change.get(part, {})}
        assert named_there <= set(COMPOSE["compose.cpu.yaml"][part])


@pytest.mark.parametrize("path", named(r"(?:python )?((?:worker|gateway|ops|tests|docs|loadtest)/[\w./-]+)"))
def test_the_file_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("setting", named(r"((?!OTEL_)[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=|$)"))
def test_the_setting_is_one(setting: str) -> None:
    assert (
        setting
        in {name.upper() for name in Settings.model_fields} | COMPOSE_SETTINGS | OF_OTHERS | READ_BY_SCRIPTS
    )
