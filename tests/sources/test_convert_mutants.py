"""Files that were damaged at random never hang, kill or surprise the process that converts them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

from tests.support.service import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SEED, COUNT = 20_260_101, 500


def test_500_mutated_files_end_in_a_recording_or_a_clear_error(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.sources.mutants", str(tmp_path), str(SEED), str(COUNT)]
    with (tmp_path / "outcomes").open("wb") as log:
        done = subprocess.run(argv, cwd=ROOT, stdout=log, stderr=subprocess.PIPE, timeout=150, check=False)
    lines = (tmp_path / "outcomes").read_text().splitlines()
    assert done.returncode == 0, f"at {lines[-1:]}: {done.stderr[-3000:].decode(errors='replace')}"
    outcomes = Counter(line.split()[1] for line in lines)
    assert outcomes.total() == COUNT
    assert {"not_audio", "warned", "whole"} <= set(outcomes), "the mutations are all too strong or too weak"
    assert list(tmp_path.glob("*.part")) == []
