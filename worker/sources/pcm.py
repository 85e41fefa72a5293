"""Reads windows of a 16 kHz mono 16-bit WAV by seeking: memory is the window's, not the file's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from worker.errors import NotAudio
from worker.sources.wav import RATE_HZ, SAMPLE_BYTES, BadWav, read_info

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

_FULL_SCALE = 32768.0


class PcmReader:
    """An open recording. A context manager; for one thread at a time.

    Raises NotAudio where the file is no 16 kHz mono 16-bit PCM WAV.
    """

    def __init__(self, path: Path) -> None:
        try:
            info = read_info(path)
        except BadWav as exc:
            raise NotAudio(f"{exc}: convert the recording first") from exc
        if not info.is_ready:
            raise NotAudio("not 16 kHz mono 16-bit PCM: convert the recording first")
        self._offset = info.data_offset
        self.samples = info.data_bytes // SAMPLE_BYTES
        self._file = path.open("rb")

    @property
    def duration_s(self) -> float:
        return self.samples / RATE_HZ

    def read(self, start_s: float, length_s: float) -> NDArray[np.float32]:
        """The samples from ``start_s`` on, shape (n,), in [-1, 1); fewer, or none, at the end."""
        first = min(max(0, round(start_s * RATE_HZ)), self.samples)
        count = min(round(length_s * RATE_HZ), self.samples - first)
        self._file.seek(self._offset + first * SAMPLE_BYTES)
        raw = self._file.read(max(0, count) * SAMPLE_BYTES)
        whole = raw[: len(raw) - len(raw) % SAMPLE_BYTES]  # the file may have been cut since it was opened
        return np.frombuffer(whole, dtype="<i2").astype(np.float32) / np.float32(_FULL_SCALE)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _exc: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()
