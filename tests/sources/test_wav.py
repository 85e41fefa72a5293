"""Headers whose sizes lie, and windows read by seeking."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.sources.audio_files import encode, tone, write_ready
from worker.errors import NotAudio
from worker.sources.pcm import PcmReader
from worker.sources.wav import HEADER_BYTES, BadWav, header, read_info

if TYPE_CHECKING:
    from pathlib import Path

SPARSE_BYTES = 5 * 1024**3


def claim(path: Path, data_bytes: int) -> Path:
    """Let the plain 44-byte header of ``path`` claim so many bytes of samples."""
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", data_bytes)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("claimed", "duration_s", "missing"),
    [
        (32_000, 1.0, 0),
        (16_000, 0.5, 0),  # what follows the samples is none of them
        (0, 1.0, 0),  # a recorder that died
        (0xFFFFFFFF, 1.0, 0),  # a pipe
        (64_000, 1.0, 32_000),  # cut short
    ],
)
def test_what_counts_is_what_is_there(tmp_path: Path, claimed: int, duration_s: float, missing: int) -> None:
    path = claim(write_ready(tmp_path / "a.wav", tone(1)), claimed)
    info = read_info(path)
    assert info.duration_s == duration_s
    assert info.missing_bytes == missing
    with PcmReader(path) as pcm:
        assert pcm.duration_s == duration_s
        assert len(pcm.read(0, 10)) == duration_s * 16_000


def test_a_header_of_32_bits_is_not_believed_beyond_4_gib(tmp_path: Path) -> None:
    path = claim(write_ready(tmp_path / "a.wav", tone(1)), SPARSE_BYTES % 2**32)
    with path.open("r+b") as file:
        file.truncate(44 + SPARSE_BYTES)  # sparse: takes no room on the disk
    with PcmReader(path) as pcm:
        assert pcm.samples == SPARSE_BYTES // 2
        assert len(pcm.read(pcm.duration_s - 1, 60)) == 16_000


def test_our_own_header_is_riff_below_4_gib_and_rf64_above(tmp_path: Path) -> None:
    small, large = tmp_path / "small.wav", tmp_path / "large.wav"
    small.write_bytes(header(32_000) + bytes(32_000))
    large.write_bytes(header(SPARSE_BYTES))
    with large.open("r+b") as file:
        file.truncate(HEADER_BYTES + SPARSE_BYTES)
    for path, name, data_bytes in ((small, b"RIFF", 32_000), (large, b"RF64", SPARSE_BYTES)):
        with path.open("rb") as file:
            assert file.read(4) == name
        info = read_info(path)
        assert info.is_ready
        assert (info.data_bytes, info.claimed_bytes, info.data_offset) == (
            data_bytes,
            data_bytes,
            HEADER_BYTES,
        )


def test_an_extensible_header_is_understood(tmp_path: Path) -> None:
    fmt = struct.pack("<HHIIHHHHIH14x", 0xFFFE, 1, 16_000, 32_000, 2, 16, 22, 16, 4, 1)
    body = (
        b"WAVEfmt "
        + struct.pack("<I", len(fmt))
        + fmt
        + b"LIST\x03\x00\x00\x00abc\x00data"
        + struct.pack("<I", 4)
    )
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body) + 4) + body + bytes(4))
    info = read_info(tmp_path / "a.wav")
    assert info.is_ready
    assert info.data_bytes == 4


@pytest.mark.parametrize(
    "content",
    [b"", b"RIFF", b"OggS" + bytes(40), b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd",
     b"RIFF\0\0\0\0WAVEfmt \2\0\0\0ab"],
)  # fmt: skip
def test_what_is_no_wav_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(BadWav):
        read_info(tmp_path / "a.wav")
    with pytest.raises(NotAudio, match="convert the recording first"):
        PcmReader(tmp_path / "a.wav")


def test_another_format_is_refused_by_the_reader(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wav", "pcm_s16le", tone(1, 44_100), 44_100)
    with pytest.raises(NotAudio, match="not 16 kHz mono"):
        PcmReader(path)


def test_windows_are_parts_of_the_whole(tmp_path: Path) -> None:
    samples = np.arange(-16_000, 16_000, dtype=np.int16)
    with PcmReader(write_ready(tmp_path / "a.wav", samples)) as pcm:
        whole = pcm.read(0, 2)
        assert whole.dtype == np.float32
        assert whole[0] == pytest.approx(-16_000 / 32_768)
        np.testing.assert_array_equal(pcm.read(0.5, 1), whole[8_000:24_000])
        assert len(pcm.read(1.75, 1)) == 4_000
        assert len(pcm.read(2, 1)) == len(pcm.read(99, 1)) == 0


def test_a_file_cut_while_open_gives_what_is_left(tmp_path: Path) -> None:
    path = write_ready(tmp_path / "a.wav", tone(2))
    with PcmReader(path) as pcm:
        with path.open("r+b") as file:
            file.truncate(44 + 16_001)
        assert len(pcm.read(0, 2)) == 8_000
