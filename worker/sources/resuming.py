"""The part of a recording that is there already, and the note beside it that lets a later attempt go on.

    <target>.part         bytes from the start, possibly with more behind them than the note vouches for
    <target>.part.json    which source they are of, which version of it, and how many are on the disk

Two attempts may hold the same part, when one was frozen and its job was given to another. So bytes are
written at their own offset and never cut off before the end: both write the same ones. Who begins anew
makes a new file, and an attempt whose file lies no longer under its name leaves note and target alone.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from worker.cache.folder import sync_folder, write_durably
from worker.errors import Interrupted

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

KEEP_EVERY_BYTES = 32 * 1024**2
KEEP_EVERY_S = 5.0  # of a slow server, what is lost with a killed worker is worth no less
_TAKEN_OVER = "another attempt has taken the job over"


@dataclass(frozen=True)
class Note:
    """``source``: a digest of the URL; ``validator``: a strong ETag or a Last-Modified, empty: none.

    ``kept_bytes`` are on the disk, safe from a power cut.
    """

    source: str
    validator: str = ""
    total_bytes: int | None = None
    kept_bytes: int = 0

    @property
    def can_go_on(self) -> bool:
        return bool(self.validator) and self.kept_bytes > 0


class Part:
    """A recording on its way in. ``done_bytes`` of it are there."""

    def __init__(self, target: Path, source: str) -> None:
        """Open what an earlier attempt at the same source left; raises FileNotFoundError for no folder."""
        self._target = target
        self._path = target.with_name(target.name + ".part")
        self._note_path = target.with_name(target.name + ".part.json")
        self._file: FileIO | None = None
        self._kept_at = time.monotonic()
        self.note = Note(source)
        self.done_bytes = 0
        kept = read_note(self._note_path)
        if kept is not None and kept.source == source and kept.can_go_on:
            self._reopen(kept)

    def begin(self, validator: str, total_bytes: int | None) -> None:
        """Forget what is there and take the source's present version."""
        self.discard()
        try:
            self._file = self._path.open("xb", buffering=0)
        except FileExistsError as exc:
            raise Interrupted(_TAKEN_OVER) from exc
        self.note = Note(self.note.source, validator, total_bytes)
        self._write_note()

    def learn_total(self, total_bytes: int | None) -> None:
        self.note = replace(self.note, total_bytes=total_bytes)

    def write(self, chunk: bytes) -> None:
        file = self._opened()
        view = memoryview(chunk)
        while view:
            written = file.write(view)
            view = view[written:]
            self.done_bytes += written
        is_much = self.done_bytes - self.note.kept_bytes >= KEEP_EVERY_BYTES
        if is_much or time.monotonic() - self._kept_at >= KEEP_EVERY_S:
            self.keep()

    def keep(self) -> None:
        """Make what is there durable, and note it. Raises Interrupted where another has begun anew."""
        if self._file is None:
            return
        if not self._is_ours(self._path):
            raise Interrupted(_TAKEN_OVER)
        os.fsync(self._file.fileno())
        self._kept_at = time.monotonic()
        self.note = replace(self.note, kept_bytes=self.done_bytes)
        self._write_note()

    def finish(self) -> None:
        """Give the whole file its name. Raises Interrupted where another attempt has begun anew."""
        file = self._opened()
        file.truncate(self.done_bytes)
        os.fsync(file.fileno())
        if self._is_ours(self._path):
            self._path.replace(self._target)
            sync_folder(self._target.parent)
        elif not self._is_ours(self._target):
            raise Interrupted(_TAKEN_OVER)
        self._note_path.unlink(missing_ok=True)

    def discard(self) -> None:
        self.close()
        self._note_path.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)
        self.note = Note(self.note.source)
        self.done_bytes = 0

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _reopen(self, kept: Note) -> None:
        try:
            file = self._path.open("r+b", buffering=0)
        except FileNotFoundError:
            return
        self._file = file
        if os.fstat(file.fileno()).st_size < kept.kept_bytes:
            self.discard()
            return
        file.seek(kept.kept_bytes)
        self.note = kept
        self.done_bytes = kept.kept_bytes

    def _opened(self) -> FileIO:
        if self._file is None:
            raise RuntimeError("the part was not begun")
        return self._file

    def _is_ours(self, path: Path) -> bool:
        """Whether the file we write lies under this name."""
        try:
            return os.path.samestat(path.stat(), os.fstat(self._opened().fileno()))
        except FileNotFoundError:
            return False

    def _write_note(self) -> None:
        write_durably(self._note_path, json.dumps(asdict(self.note)).encode())


def read_note(path: Path) -> Note | None:
    """None for no note, or one that nobody can make sense of."""
    try:
        fields = json.loads(path.read_bytes())
        note = Note(
            str(fields["source"]),
            str(fields["validator"]),
            None if fields["total_bytes"] is None else int(fields["total_bytes"]),
            int(fields["kept_bytes"]),
        )
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return note if note.kept_bytes >= 0 else None
