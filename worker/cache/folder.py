"""Layout of the cache, its disk guard, and durable writes."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.errors import DiskFull

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TASK_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
RETRY_AFTER_FULL_DISK_S = 300


@dataclass(frozen=True)
class JobFolder:
    path: Path

    @property
    def input(self) -> Path:
        return self.path / "input"

    def recording(self, lease: str) -> Path:
        """The converted recording of one attempt. Attempts share no file, so a late one spoils nothing."""
        return self.path / f"recording.{_entry_id(lease)}.wav"

    def result(self, lease: str) -> Path:
        """The result file of one attempt."""
        return self.path / f"result.{_entry_id(lease)}.json"

    @property
    def checkpoints(self) -> Path:
        """What attempts leave for the next one."""
        return self.path / "checkpoints"

    def create(self) -> None:
        """Make the folder, durably: after this returns, a power cut does not take it back."""
        self.path.mkdir(parents=True)
        sync_folder(self.path.parent)

    def remove(self) -> bool:
        """Remove every byte of the job; False where something is left. Safe to repeat."""
        shutil.rmtree(self.path, ignore_errors=True)
        return not self.path.exists()

    def keep_only(self, name: str) -> None:
        """Remove everything but the file ``name``: the input, what was made of it, losers' results."""
        for entry in self.path.iterdir():
            if entry.name == name:
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)

    def holds_at_most_one_file(self) -> bool:
        """Also true of a folder that was removed meanwhile."""
        try:
            return len(list(self.path.iterdir())) <= 1
        except FileNotFoundError:
            return True

    def age_s(self) -> float:
        """Seconds since anything in the folder was last written."""
        paths = [self.path, *self.path.rglob("*")]
        return time.time() - max(path.lstat().st_mtime for path in paths)


def _entry_id(lease: str) -> str:
    return lease.partition("@")[0]


@dataclass(frozen=True)
class Cache:
    root: Path
    min_free_bytes: int = 0

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    def folder(self, task_id: str) -> JobFolder:
        """The job's folder.

        Raises:
            ValueError: for anything but a UUID. Ids come from URLs: this is the guard against '../'.
        """
        if not is_task_id(task_id):
            raise ValueError(f"not a task id: {task_id!r}")
        return JobFolder(self.jobs / task_id)

    def folders(self) -> Iterator[tuple[str, JobFolder]]:
        if self.jobs.is_dir():
            for path in self.jobs.iterdir():
                yield path.name, JobFolder(path)

    def free_bytes(self) -> int:
        self.jobs.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.jobs).free

    def disk_bytes(self) -> int:
        self.jobs.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.jobs).total

    def shortage(self) -> str | None:
        """Why nothing is written here for now, for an operator; None where there is room."""
        if self.free_bytes() >= self.min_free_bytes:
            return None
        return f"less than MIN_FREE_BYTES ({self.min_free_bytes // 1024**2} MiB) is free on the cache's disk"

    def require_space(self, extra_bytes: int = 0) -> None:
        """Raise DiskFull unless ``extra_bytes`` more can be written with the reserve kept free."""
        if self.free_bytes() - extra_bytes < self.min_free_bytes:
            raise DiskFull(
                "the cache's disk has no room for this recording: try again later",
                retry_after_s=RETRY_AFTER_FULL_DISK_S,
            )


def is_task_id(text: str) -> bool:
    return _TASK_ID.fullmatch(text) is not None


def write_durably(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` whole or not at all, and survive a power cut after returning."""
    # A name of its own: two attempts may write the same file at once.
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError:
        aside.unlink(missing_ok=True)  # on a full disk every half-written file counts
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable (fsync(2): a file's own fsync does not cover its name)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
