"""RIFF headers of WAV files: reading them without believing their sizes, and writing our own.

Sizes in real files lie: recorders that die leave 0 or the size of a file that was never finished, pipes
leave 0xFFFFFFFF, and beyond 4 GiB a size of 32 bits cannot be true. What counts is how many bytes are there.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 16_000
SAMPLE_BYTES = 2
HEADER_BYTES = 80
PCM = 1
_EXTENSIBLE = 0xFFFE  # the true format is the first two bytes of the sub-format's GUID
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)
_4_GIB = 1 << 32
_DS64_BYTES = 28


class BadWav(ValueError):
    """The bytes are no WAV with a format and samples; the message says what is missing."""


@dataclass(frozen=True)
class WavInfo:
    """A WAV's format and where its samples lie. ``claimed_bytes`` is None where the header knows none."""

    codec: int
    channels: int
    rate_hz: int
    frame_bytes: int
    sample_bits: int
    data_offset: int
    data_bytes: int
    claimed_bytes: int | None

    @property
    def is_ready(self) -> bool:
        """Whether engines can read it as it is: 16 kHz, mono, 16 bits, PCM."""
        return (self.codec, self.channels, self.rate_hz, self.sample_bits) == (PCM, 1, RATE_HZ, 16)

    @property
    def duration_s(self) -> float:
        """Of the samples that are there. Exact for PCM only."""
        frames = self.data_bytes // self.frame_bytes if self.frame_bytes else 0
        return frames / self.rate_hz if self.rate_hz else 0.0

    @property
    def missing_bytes(self) -> int:
        return max(0, (self.claimed_bytes or 0) - self.data_bytes)


def read_info(path: Path) -> WavInfo:
    """Read the header. Raises BadWav, or OSError where the file can't be read."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RF64") or head[8:12] != b"WAVE":
            raise BadWav("not a WAV file")
        return _walk(file, size)


def _walk(file: BinaryIO, size: int) -> WavInfo:
    """Go from chunk to chunk until the samples."""
    fmt: tuple[int, int, int, int, int] | None = None
    long_size: int | None = None
    while len(head := file.read(8)) == 8:  # noqa: PLR2004  a chunk's name and size
        name, length = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data":
            return _info(fmt, length if long_size is None else long_size, file.tell(), size)
        body = file.tell()
        if name == b"fmt ":
            fmt = _parse_format(file.read(min(length, 40)))
        elif name == b"ds64":
            long_size = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        file.seek(body + length + length % 2)
    raise BadWav("a WAV file without samples")


def _info(fmt: tuple[int, int, int, int, int] | None, claimed: int, offset: int, size: int) -> WavInfo:
    if fmt is None:
        raise BadWav("a WAV file that does not say its format")
    there = max(0, size - offset)
    known = claimed not in _UNKNOWN_SIZES and (size < _4_GIB or claimed >= _4_GIB)
    codec, channels, rate_hz, frame_bytes, sample_bits = fmt
    return WavInfo(
        codec=codec,
        channels=channels,
        rate_hz=rate_hz,
        frame_bytes=frame_bytes,
        sample_bits=sample_bits,
        data_offset=offset,
        data_bytes=min(claimed, there) if known else there,
        claimed_bytes=claimed if known else None,
    )


def _parse_format(body: bytes) -> tuple[int, int, int, int, int]:
    if len(body) < 16:  # noqa: PLR2004  the fixed part of the chunk
        raise BadWav("a WAV file whose format is cut off")
    codec, channels, rate_hz, _, frame_bytes, sample_bits = struct.unpack_from("<HHIIHH", body)
    if codec == _EXTENSIBLE and len(body) >= 26:  # noqa: PLR2004  up to the GUID's first two bytes
        codec = struct.unpack_from("<H", body, 24)[0]
    return codec, channels, rate_hz, frame_bytes, sample_bits


def header(data_bytes: int) -> bytes:
    """The HEADER_BYTES bytes before ``data_bytes`` bytes of 16 kHz mono 16-bit samples.

    RIFF where its 32 bits hold the size, else RF64 (EBU Tech 3306); the room of RF64's ds64 chunk is a
    JUNK chunk in the first, so that the header can be written first and mended last.
    """
    riff_bytes = HEADER_BYTES - 8 + data_bytes
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, PCM, 1, RATE_HZ, RATE_HZ * SAMPLE_BYTES, SAMPLE_BYTES, 16)
    if riff_bytes < _4_GIB:
        spare = struct.pack("<4sI28x", b"JUNK", _DS64_BYTES)
        outer, inner = riff_bytes, data_bytes
        name = b"RIFF"
    else:
        frames = data_bytes // SAMPLE_BYTES
        spare = struct.pack("<4sIQQQI", b"ds64", _DS64_BYTES, riff_bytes, data_bytes, frames, 0)
        outer = inner = 0xFFFFFFFF
        name = b"RF64"
    return struct.pack("<4sI4s", name, outer, b"WAVE") + spare + fmt + struct.pack("<4sI", b"data", inner)
