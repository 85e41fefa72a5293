"""One after the other: the workers of a device do not load their models at the same time.

Each of them would find the same memory free. The turn is a lock on a file of this machine, so it ends with
the process that holds it, however that dies.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

KEPT_S = 30.0  # a model that loads with a job is in memory by then


class Turn:
    """The turn of one worker. Use it in one thread."""

    def __init__(self, uuid: str, folder: Path | None = None) -> None:
        self._path = (folder or Path(tempfile.gettempdir())) / f"transcription-{uuid}.turn"
        self._file: int | None = None
        self._loaded_since: float | None = None

    def look(self, *, may_load: bool, loaded: bool, at_work: bool, now: float) -> bool:
        """Whether the worker may take a job for all that the others do. Call every second.

        Args:
            may_load: There is room for its model, and nothing else stands against it.
            loaded: The model is in memory, or will be in a moment.
            now: Monotonic seconds.
        """
        if not loaded:
            self._loaded_since = None
            if may_load:
                return self._take()
            self.leave()
            return True
        if self._loaded_since is None:
            self._loaded_since = now
        if not at_work or now - self._loaded_since >= KEPT_S:
            self.leave()
        return True

    def leave(self) -> None:
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # closing is not enough: a forked child has the file, too
            os.close(self._file)
            self._file = None

    def _take(self) -> bool:
        if self._file is not None:
            return True
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:  # a folder that is not writable, another user's file: then nobody waits for anybody
            return True
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            self._file = None
            return False
        return True
