"""``make audit`` fails for a finding and anything unclear; unaudited it passes only without a database."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOUND = {"name": "a", "version": "1", "vulns": []}
UNKNOWN = {"name": "b", "skip_reason": "Dependency not found on PyPI and could not be audited: b (1)"}
WEAK = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "aliases": [], "fix_versions": ["3"]}]}
AWAY = "Traceback\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(host='pypi.org', port=443)"


def judged(tmp_path: Path, packages: list[dict[str, Any]] | None, log: str = "") -> tuple[int, str]:
    (tmp_path / "log").write_text(log)
    ran = subprocess.run(
        [sys.executable, ROOT / ".ci/audit.py", "some.lock", tmp_path / "log"],
        input="" if packages is None else json.dumps({"dependencies": packages}),
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout


@pytest.mark.parametrize(
    ("packages", "log", "status", "says"),
    [
        ([SOUND], "", 0, "1 versions have no known weakness"),
        ([SOUND, UNKNOWN], "", 0, "not in the database: b"),
        ([SOUND, UNKNOWN, WEAK], "", 1, "c 2: PYSEC-1, mended in 3"),
        ([UNKNOWN], "", 0, "not audited"),
        (None, AWAY, 0, "not audited"),
        (None, "pip_audit: error: invalid requirements input", 1, "invalid requirements input"),
    ],
)
def test_the_verdict(
    tmp_path: Path, packages: list[dict[str, Any]] | None, log: str, status: int, says: str
) -> None:
    code, printed = judged(tmp_path, packages, log)
    assert code == status
    assert says in printed
    assert printed.startswith("some.lock: ")
