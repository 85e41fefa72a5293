"""A service of its own for each test; and whether this clone has the history that the last release is in."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.service import ROOT, Service
from tests.upgrade.release import LAST_RELEASE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _has_history() -> bool:
    asked = ["git", "cat-file", "-e", f"{LAST_RELEASE}^{{commit}}"]
    try:
        return subprocess.run(asked, cwd=ROOT, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


# A shallow clone and an archive have none; the frozen records of test_formats.py speak for the release there.
collect_ignore = [] if _has_history() else ["test_last_release.py"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path, {"ENGINE": "simulated", "SIMULATED_SCRIPT": '{"speed": 600}'})
    yield running
    running.end()
