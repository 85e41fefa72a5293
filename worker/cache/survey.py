"""What lies in the cache, counted on the disk itself."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.cache.folder import Cache


@dataclass(frozen=True)
class Contents:
    """``took_s``: how long the count took, which grows with the files."""

    files: int
    size_bytes: int
    took_s: float


def survey(cache: Cache) -> Contents:
    """Look at every file. What comes or goes meanwhile may be counted or not."""
    began = time.monotonic()
    sizes = list(_sizes(cache.jobs))
    return Contents(len(sizes), sum(sizes), time.monotonic() - began)


def _sizes(folder: Path | str) -> Iterator[int]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:  # removed since it was listed
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _sizes(entry.path)
            continue
        try:
            yield entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
