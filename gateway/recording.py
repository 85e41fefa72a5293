"""The recording as it comes in: counted, and written once, straight to where the worker reads it.

What it is, only the worker looks at: it has the decoders.

Blocking: for threads, never for the event loop.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from worker.cache.folder import RETRY_AFTER_FULL_DISK_S, sync_folder
from worker.errors import DiskFull, EmptyRecording, TooLarge

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Iterator

    from worker.cache import Cache, JobFolder

BLOCK_BYTES = 1024 * 1024  # handed to a thread at once, while uploads are few
SMALLEST_BLOCK_BYTES = 64 * 1024
HELD_BYTES = 64 * 1024 * 1024  # what all uploads together may gather for their next blocks
SHORT_BYTES = 128 * 1024  # of a body that lies in the kernel before any answer could stop it
BUFFER_BYTES = 64 * 1024  # for the odd small piece: a whole block passes it by
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class RecordingFile:
    """The input file of a job that is not accepted yet.

    The folder is made when the first bytes come, so that an empty upload leaves no trace on the disk.

    Args:
        limit_bytes: Size at which the recording is refused.
        digest: Fed with every byte.
    """

    def __init__(
        self, cache: Cache, folder: JobFolder, limit_bytes: int, digest: hashlib._Hash | None = None
    ) -> None:
        self._digest = digest
        self._cache = cache
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._file: BinaryIO | None = None
        self.size_bytes = 0
        self._begun_bytes = 0  # of these, given to the disk

    @property
    def is_open(self) -> bool:
        return self._file is not None

    @property
    def sha256(self) -> str:
        """Of what was taken so far; empty without a digest."""
        return self._digest.hexdigest() if self._digest else ""

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes, of any number.

        Raises:
            TooLarge, DiskFull
        """
        self.size_bytes += len(data)
        if self.size_bytes > self._limit_bytes:
            raise too_large(self._limit_bytes)
        if self._digest is not None:
            self._digest.update(data)
        if data:
            with _full_disk_told():
                (self._file or self._opened(len(data))).write(data)

    def flush(self) -> None:
        """Let the disk begin with what was taken, and look whether the reserve is still free.

        Raises:
            DiskFull
        """
        if self._file is not None:
            with _full_disk_told():
                self._file.flush()
                self._begin_writing(self._file.fileno())
            self._cache.require_space()

    def finish(self) -> None:
        """Make file and folder durable: after this, a power cut takes nothing back.

        Raises:
            EmptyRecording, DiskFull
        """
        if self._file is None:
            raise empty()
        with _full_disk_told():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        sync_folder(self._folder.path)

    def discard(self) -> None:
        """Leave nothing behind. Safe at any time, and to repeat."""
        self._folder.remove()  # first: a write that is still going on in a thread then writes into nothing
        if self._file is not None:
            with _full_disk_told(quiet=True):
                self._file.close()

    def _begin_writing(self, descriptor: int) -> None:
        """Leave little to the sync at the end, which the client waits for: half a second for each GiB.

        Linux writes out what is dirty in a range that is not needed, without waiting for it, and keeps it
        in memory until it is written (mm/fadvise.c).
        """
        new_bytes = self.size_bytes - self._begun_bytes
        os.posix_fadvise(descriptor, self._begun_bytes, new_bytes, os.POSIX_FADV_DONTNEED)
        self._begun_bytes = self.size_bytes

    def _opened(self, first_bytes: int) -> BinaryIO:
        self._cache.require_space(first_bytes)
        self._folder.create()
        self._file = self._folder.input.open("xb", buffering=BUFFER_BYTES)
        return self._file


def block_bytes(uploads: int) -> int:
    """How much each of so many uploads may gather: a thousand that are slow must not hold a GiB."""
    return min(BLOCK_BYTES, max(SMALLEST_BLOCK_BYTES, HELD_BYTES // max(uploads, 1)))


def empty() -> EmptyRecording:
    return EmptyRecording("the recording is empty: send one that has bytes in it")


def too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"the recording is larger than {limit_bytes} bytes (MAX_UPLOAD_BYTES)")


@contextmanager
def _full_disk_told(*, quiet: bool = False) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if quiet:
            return
        if exc.errno not in _FULL:
            raise
        raise DiskFull(
            "the cache's disk is full: try again later", retry_after_s=RETRY_AFTER_FULL_DISK_S
        ) from exc
