"""The workers of one device load one after the other."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.service import ROOT
from worker.gpu.turn import KEPT_S, Turn

if TYPE_CHECKING:
    from pathlib import Path


def wants(turn: Turn, *, loaded: bool = False, at_work: bool = False, now: float = 0.0) -> bool:
    return turn.look(may_load=True, loaded=loaded, at_work=at_work, now=now)


def test_one_waits_until_the_other_has_loaded(tmp_path: Path) -> None:
    first, second, elsewhere = Turn("GPU-a", tmp_path), Turn("GPU-a", tmp_path), Turn("GPU-b", tmp_path)
    assert [wants(first), wants(second), wants(elsewhere)] == [True, False, True]
    assert (wants(first), wants(second)) == (True, False)
    assert wants(first, loaded=True)
    assert wants(second)
    assert wants(first, loaded=True), "a loaded one waits for nobody"


def test_a_forked_child_keeps_no_turn(tmp_path: Path) -> None:
    first, second = Turn("GPU-a", tmp_path), Turn("GPU-a", tmp_path)
    wants(first)
    assert first._file is not None
    childs = os.dup(first._file)  # what a fork does
    first.leave()
    assert wants(second)
    os.close(childs)


def test_one_that_loads_with_a_job_has_its_time_for_it(tmp_path: Path) -> None:
    first, second = Turn("GPU-a", tmp_path), Turn("GPU-a", tmp_path)
    wants(first)
    for now in (0.0, KEPT_S - 1):
        wants(first, loaded=True, at_work=True, now=now)
        assert not wants(second)
    wants(first, loaded=True, at_work=True, now=KEPT_S)
    assert wants(second)


def test_one_without_room_keeps_nobody_waiting(tmp_path: Path) -> None:
    first, second = Turn("GPU-a", tmp_path), Turn("GPU-a", tmp_path)
    wants(first)
    first.look(may_load=False, loaded=False, at_work=False, now=0)
    assert wants(second)


HOLDER = """
import pathlib, sys
from worker.gpu.turn import Turn
turn = Turn("GPU-a", pathlib.Path(sys.argv[1]))
print(turn.look(may_load=True, loaded=False, at_work=False, now=0), flush=True)
sys.stdin.read()
"""


def test_a_turn_ends_with_its_process(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", HOLDER, str(tmp_path)]
    mine = Turn("GPU-a", tmp_path)
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert not wants(mine)
        other.kill()
    assert wants(mine)


def test_where_no_file_can_be_made_nobody_waits(tmp_path: Path) -> None:
    assert wants(Turn("GPU-a", tmp_path / "nowhere"))
