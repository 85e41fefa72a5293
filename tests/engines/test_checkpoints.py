"""Files that an attempt leaves for the next one: trusted only where they are whole and its own."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from worker.engines.checkpoints import NO_CHECKPOINTS, FolderCheckpoints, recording_id

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent
VALUE = {"until_s": 1 / 3, "phrases": [[0.1, 2.0, "the best of times"], [2.0, 3.5, "Zoë 🙂 \ud83d"]]}
WRITER = """
import sys
from pathlib import Path
from worker.engines.checkpoints import FolderCheckpoints
kept = FolderCheckpoints(Path(sys.argv[1]), {"recording": "r"})
sys.stdin.readline()
for _ in range(60):
    kept.save("step", sys.argv[2] * 50_000)
"""


@pytest.fixture
def kept(tmp_path: Path) -> FolderCheckpoints:
    return FolderCheckpoints(tmp_path / "checkpoints", {"recording": "r"}).keyed(model="m", version=1)


def only_file(kept: FolderCheckpoints) -> Path:
    (file,) = [path for path in kept.folder.rglob("*") if path.is_file()]
    return file


def test_a_value_comes_back_as_it_was(kept: FolderCheckpoints) -> None:
    assert kept.load("step") is None
    kept.save("step", VALUE)
    kept.save("step", VALUE)  # safe to repeat
    assert kept.load("step") == VALUE
    assert kept.load("other") is None
    assert only_file(kept).name == "step.json"


def test_the_identity_tells_values_apart_whatever_its_order(kept: FolderCheckpoints, tmp_path: Path) -> None:
    kept.save("step", VALUE)
    folder = tmp_path / "checkpoints"
    same = FolderCheckpoints(folder, {"recording": "r"}).keyed(version=1).keyed(model="m")
    assert same.load("step") == VALUE
    for other in (
        kept.keyed(model="n"),
        kept.keyed(version="1"),
        kept.keyed(language=None),
        FolderCheckpoints(folder, {"recording": "s"}).keyed(model="m", version=1),
        FolderCheckpoints(folder, {"recording": "r"}).keyed(model="m"),
    ):
        assert other.load("step") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[:30],
        lambda _: b"",
        lambda data: data.replace(b"best", b"rest"),
        lambda data: data.partition(b"\n")[2],
        lambda data: hashlib.sha256(data.partition(b"\n")[2]).hexdigest().encode() + data[64:],
        lambda _: b"\xff\n\xff",
        lambda data: b"\0" * len(data),  # what some file systems leave after a power cut
    ],
)
def test_what_is_torn_empty_or_altered_counts_as_none(
    kept: FolderCheckpoints, damage: Callable[[bytes], bytes]
) -> None:
    kept.save("step", VALUE)
    file = only_file(kept)
    file.write_bytes(damage(file.read_bytes()))
    assert kept.load("step") is None
    kept.save("step", VALUE)
    assert kept.load("step") == VALUE


def test_another_steps_or_another_identitys_file_under_this_name_counts_as_none(
    kept: FolderCheckpoints,
) -> None:
    kept.save("step", VALUE)
    file = only_file(kept)
    file.with_name("moved.json").write_bytes(file.read_bytes())
    assert kept.load("moved") is None
    other = kept.keyed(model="n")
    other.save("step", "theirs")
    (theirs,) = [path for path in kept.folder.rglob("step.json") if path != file]
    theirs.write_bytes(file.read_bytes())
    assert other.load("step") is None


@pytest.mark.parametrize("name", ["", "..", "../step", "a/b", ".hidden", "a\nb", "a b", "ä", "x" * 101])
def test_only_plain_names_are_taken(kept: FolderCheckpoints, name: str) -> None:
    with pytest.raises(ValueError, match="no plain name"):
        kept.save(name, VALUE)
    with pytest.raises(ValueError, match="no plain name"):
        kept.load(name)
    assert not kept.folder.exists()


def test_a_job_that_was_released_stays_gone(tmp_path: Path) -> None:
    kept = FolderCheckpoints(tmp_path / "released" / "checkpoints")
    kept.save("step", VALUE)
    assert not (tmp_path / "released").exists()


def in_the_way_of_the_folder(kept: FolderCheckpoints) -> None:
    kept.folder.write_text("a file")


def in_the_way_of_the_name(kept: FolderCheckpoints) -> None:
    kept.save("other", VALUE)
    only_file(kept).with_name("step.json").mkdir()


@pytest.mark.parametrize("obstacle", [in_the_way_of_the_folder, in_the_way_of_the_name])
def test_where_nothing_can_be_kept_nothing_is_raised_and_nothing_left(
    kept: FolderCheckpoints, obstacle: Callable[[FolderCheckpoints], None]
) -> None:
    obstacle(kept)
    before = sorted(kept.folder.parent.rglob("*"))
    kept.save("step", VALUE)
    assert kept.load("step") is None
    assert sorted(kept.folder.parent.rglob("*")) == before


def test_a_full_disk_loses_only_the_checkpoint(
    kept: FolderCheckpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk's last bytes are gone when the data is forced out; none can be had here for real."""
    kept.save("step", "older")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    kept.save("step", "newer")
    assert kept.load("step") == "older"
    assert only_file(kept).name == "step.json"


def test_two_attempts_that_write_one_name_at_once_leave_one_whole_value(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "checkpoints"), letter],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for letter in "ab"
    ]
    kept = FolderCheckpoints(tmp_path / "checkpoints", {"recording": "r"})
    for one in writers:
        assert one.stdin is not None
        one.stdin.write(b"\n")
        one.stdin.flush()
    seen: set[Any] = set()
    while any(one.poll() is None for one in writers):
        seen.add(kept.load("step"))
    complaints = b"".join(one.communicate()[0] for one in writers)
    assert [one.returncode for one in writers] == [0, 0]
    assert complaints == b""
    assert seen <= {None, "a" * 50_000, "b" * 50_000}
    assert kept.load("step") in {"a" * 50_000, "b" * 50_000}
    assert only_file(kept).name == "step.json"


def test_no_checkpoints_keep_nothing() -> None:
    kept = NO_CHECKPOINTS.keyed(model="m")
    kept.save("step", VALUE)
    assert kept.load("step") is None


def test_a_recording_is_known_by_its_content(tmp_path: Path) -> None:
    first, copy, other = (tmp_path / name for name in ("a.wav", "b.wav", "c.wav"))
    first.write_bytes(b"one" * 1000)
    copy.write_bytes(b"one" * 1000)
    other.write_bytes(b"one" * 999 + b"two")
    assert recording_id(first) == recording_id(copy) == hashlib.sha256(b"one" * 1000).hexdigest()
    assert recording_id(first) != recording_id(other)
