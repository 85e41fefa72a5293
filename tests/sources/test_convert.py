"""Conversion of what people send: kinds, broken files, cut files."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.sources.audio_files import copied, encode, tone, video_without_sound, write_ready
from worker.errors import InputMissing, NotAudio, TooLong
from worker.sources.convert import convert
from worker.sources.pcm import PcmReader
from worker.sources.wav import read_info

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from worker.sources.convert import Recording

KINDS = [
    ("u8.wav", "pcm_u8", 16_000, 1),
    ("s16.wav", "pcm_s16le", 44_100, 1),
    ("stereo.wav", "pcm_s16le", 16_000, 2),
    ("s24.wav", "pcm_s24le", 16_000, 1),
    ("s32.wav", "pcm_s32le", 48_000, 2),
    ("float.wav", "pcm_f32le", 16_000, 1),
    ("mulaw.wav", "pcm_mulaw", 8_000, 1),
    ("sound.mp3", "libmp3lame", 44_100, 2),
    ("sound.m4a", "aac", 44_100, 1),
    ("sound.mp4", "aac", 48_000, 2),
    ("sound.ogg", "libvorbis", 44_100, 2),
    ("sound.opus", "libopus", 48_000, 1),
    ("sound.flac", "flac", 44_100, 2),
    ("sound.mkv", "aac", 16_000, 1),
    ("sound.webm", "libopus", 48_000, 2),
    ("sound.mov", "pcm_s16le", 44_100, 2),
    ("sound.w64", "pcm_s24le", 48_000, 2),
    ("sound.aiff", "pcm_s16be", 44_100, 1),
    ("sound.avi", "pcm_s16le", 44_100, 1),
    ("float64.wav", "pcm_f64le", 22_050, 1),
    ("alaw.wav", "pcm_alaw", 8_000, 1),
]


def loudest_hz(samples: NDArray[np.float32]) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples)))) * 16_000 / len(samples)


@pytest.mark.parametrize(("name", "codec", "rate_hz", "channels"), KINDS)
def test_every_kind_becomes_the_same_sound(
    tmp_path: Path, name: str, codec: str, rate_hz: int, channels: int
) -> None:
    source = encode(tmp_path / name, codec, tone(2, rate_hz, channels), rate_hz)
    recording = convert(source, tmp_path / "out.wav")
    assert recording.converted
    assert recording.path == tmp_path / "out.wav"
    assert recording.duration_s == pytest.approx(2, abs=0.15)  # codecs pad
    assert recording.warnings == ()
    assert_is_the_tone(recording)
    assert list(tmp_path.glob("*.part")) == []


def assert_is_the_tone(recording: Recording) -> None:
    with PcmReader(recording.path) as pcm:
        samples = pcm.read(0, 10)
    assert loudest_hz(samples) == pytest.approx(440, abs=2)
    loudness = np.sqrt(np.mean(samples[8_000:24_000] ** 2)) * np.sqrt(2)
    assert loudness == pytest.approx(10_000 / 32_768, rel=0.1)


@pytest.mark.parametrize("fast_start", [False, True], ids=["index at the end", "index at the start"])
def test_the_place_of_an_mp4s_index_does_not_matter(tmp_path: Path, fast_start: bool) -> None:
    source = encode(tmp_path / "in.mp4", "aac", tone(2, 44_100), 44_100)
    if fast_start:
        source = copied(source, tmp_path / "fast.mp4", movflags="faststart")
    content = source.read_bytes()
    assert (content.index(b"moov") < content.index(b"mdat")) is fast_start
    assert_is_the_tone(convert(source, tmp_path / "out.wav"))


def test_a_wav_beyond_32_bits_is_read_by_its_long_header(tmp_path: Path) -> None:
    """RF64, small: the sizes of 32 bits say nothing, those of its ds64 chunk count."""
    plain = encode(tmp_path / "plain.wav", "pcm_s16le", tone(2, 44_100), 44_100)
    info = read_info(plain)
    data = plain.read_bytes()[info.data_offset :]
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 44_100, 88_200, 2, 16)
    ds64 = struct.pack("<4sIQQQI", b"ds64", 28, len(data) + 72, len(data), len(data) // 2, 0)
    source = tmp_path / "long.wav"
    source.write_bytes(b"RF64\xff\xff\xff\xffWAVE" + ds64 + fmt + b"data\xff\xff\xff\xff" + data)
    recording = convert(source, tmp_path / "out.wav")
    assert recording.warnings == ()
    assert_is_the_tone(recording)


def test_a_ready_recording_is_left_as_it_is(tmp_path: Path) -> None:
    source = write_ready(tmp_path / "in", tone(1))
    recording = convert(source, tmp_path / "out.wav")
    assert not recording.converted
    assert recording.path == source
    assert recording.duration_s == 1
    assert not (tmp_path / "out.wav").exists()


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mp3", "libmp3lame", tone(1, 44_100), 44_100)
    named = source.rename(tmp_path / "http:..data%20:input")
    assert convert(named, tmp_path / "out.wav").duration_s == pytest.approx(1, abs=0.1)


def test_a_tag_in_another_encoding_does_no_harm(tmp_path: Path) -> None:
    source = plain_wav(tmp_path / "tagged.wav", 1, 8_000, bits=16, samples=8_000)
    content = source.read_bytes()
    tag = struct.pack("<4sI4s4sI", b"LIST", 16, b"INFO", b"INAM", 4) + b"caf\xe9"
    source.write_bytes(content[:12] + tag + content[12:])
    assert convert(source, tmp_path / "out.wav").duration_s == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (b"nothing to hear here, " * 500, "no audio or video that can be read"),
        (bytes(range(256)) * 400, "no audio or video that can be read"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "no audio or video that can be read"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "no audio or video"),
        (b"ffconcat version 1.0\nfile other.wav\n", "no audio or video that can be read"),
    ],
)
def test_what_is_no_audio_says_so_and_what_to_do(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "in").write_bytes(content)
    with pytest.raises(NotAudio, match=problem) as caught:
        convert(tmp_path / "in", tmp_path / "out.wav")
    assert "send a complete audio or video file" in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_header_without_samples_is_no_audio(tmp_path: Path) -> None:
    with pytest.raises(NotAudio, match="no sound"):
        convert(write_ready(tmp_path / "ready.wav", tone(0)), tmp_path / "out.wav")
    other = encode(tmp_path / "other.wav", "pcm_s16le", tone(1, 44_100), 44_100)
    other.write_bytes(other.read_bytes()[: read_info(other).data_offset])
    with pytest.raises(NotAudio, match=r"no sound|no audio"):
        convert(other, tmp_path / "out.wav")


def plain_wav(path: Path, codec: int, rate_hz: int, bits: int, samples: int, channels: int = 1) -> Path:
    frame = bits // 8 * channels
    fmt = struct.pack("<HHIIHH", codec, channels, rate_hz, rate_hz * frame, frame, bits)
    data = bytes(samples * frame)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


@pytest.mark.parametrize(
    ("codec", "rate_hz", "problem"),
    [(0x9999, 16_000, "can't be decoded"), (1, 1, "1 Hz"), (1, 10_000_000, "Hz")],
)
def test_a_header_of_nonsense_is_no_audio(tmp_path: Path, codec: int, rate_hz: int, problem: str) -> None:
    source = plain_wav(tmp_path / "odd.wav", codec, rate_hz, bits=16, samples=16_000)
    with pytest.raises(NotAudio, match=problem):
        convert(source, tmp_path / "out.wav")
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize(
    ("channels", "problem"),
    [(100, "100 channels can't be mixed"), (1000, "no sound that can be decoded"), (0, "no sound")],
)
def test_channels_that_nobody_can_mix_are_named(tmp_path: Path, channels: int, problem: str) -> None:
    source = plain_wav(tmp_path / "many.wav", 1, 16_000, bits=16, samples=1000, channels=channels)
    with pytest.raises(NotAudio, match=problem):
        convert(source, tmp_path / "out.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["many.wav"]


def test_an_encrypted_file_says_so(tmp_path: Path) -> None:
    plain = encode(tmp_path / "plain.mp4", "aac", tone(2, 44_100), 44_100)
    source = copied(
        plain,
        tmp_path / "encrypted.mp4",
        encryption_scheme="cenc-aes-ctr",
        encryption_key="76a6c65c5ea762046bd749a2e632ccbb",
        encryption_kid="a7e61c373e219033c21091fa607bf3b8",
    )
    with pytest.raises(NotAudio, match="the file is encrypted"):
        convert(source, tmp_path / "out.wav")


def test_an_mp4_cut_off_before_its_index_is_no_audio(tmp_path: Path) -> None:
    source = encode(tmp_path / "in.mp4", "aac", tone(5, 44_100), 44_100)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(NotAudio, match="send a complete audio or video file"):
        convert(source, tmp_path / "out.wav")


@pytest.mark.parametrize("rate_hz", [8_000, 16_000], ids=["to be converted", "ready"])
def test_a_header_of_days_gives_what_is_there_and_a_warning(tmp_path: Path, rate_hz: int) -> None:
    source = plain_wav(tmp_path / "days.wav", 1, rate_hz, bits=16, samples=2 * rate_hz)
    content = bytearray(source.read_bytes())
    at = content.index(b"data")
    content[4:8] = content[at + 4 : at + 8] = struct.pack("<I", 0xFFFFFFF0)
    source.write_bytes(content)
    recording = convert(source, tmp_path / "out.wav", max_duration_s=10)
    assert recording.duration_s == 2
    assert [warning.code for warning in recording.warnings] == ["truncated_recording"]


def test_a_header_of_ten_years_in_an_mp4_is_not_believed(tmp_path: Path) -> None:
    source = encode(tmp_path / "in.mp4", "aac", tone(2, 44_100), 44_100)
    content = bytearray(source.read_bytes())
    for box in (b"mvhd", b"mdhd"):  # in both, the duration is the sixth field of 32 bits
        at = content.index(box) + 20
        content[at : at + 4] = struct.pack(">I", 0xFFFFFFF0)
    source.write_bytes(content)
    assert convert(source, tmp_path / "out.wav", max_duration_s=10).duration_s == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000], ids=["to be converted", "ready"])
def test_a_recording_longer_than_is_allowed_is_refused(tmp_path: Path, rate_hz: int) -> None:
    source = plain_wav(tmp_path / "long.wav", 1, rate_hz, bits=16, samples=3 * rate_hz)
    with pytest.raises(TooLong, match=r"longer than 2\.5 s \(MAX_DURATION_S\)"):
        convert(source, tmp_path / "out.wav", max_duration_s=2.5)
    assert [path.name for path in tmp_path.iterdir()] == ["long.wav"]
    assert convert(source, tmp_path / "out.wav", max_duration_s=3).duration_s == 3


def test_a_conversion_is_looked_at_while_little_comes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.sources.convert.CHECK_EVERY_S", 0)
    source = encode(tmp_path / "in.flac", "flac", tone(2, 44_100), 44_100)
    looks: list[None] = []
    convert(source, tmp_path / "out.wav", lambda: looks.append(None))
    assert len(looks) > 3


def test_a_long_conversion_can_be_stopped_and_leaves_nothing(tmp_path: Path) -> None:
    source = plain_wav(tmp_path / "long.wav", 1, 8_000, bits=16, samples=8_000 * 600)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out.wav", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["long.wav"]


def test_a_video_without_sound_names_the_lack(tmp_path: Path) -> None:
    source = video_without_sound(tmp_path / "silent.mp4")
    with pytest.raises(NotAudio, match="no audio track"):
        convert(source, tmp_path / "out.wav")


def test_a_missing_file_is_not_called_bad_audio(tmp_path: Path) -> None:
    with pytest.raises(InputMissing):
        convert(tmp_path / "gone", tmp_path / "out.wav")


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [("cut.wav", "pcm_s16le", 44_100), ("cut.mkv", "libopus", 48_000), ("cut.flac", "flac", 44_100)],
)
def test_a_cut_file_gives_what_is_there_and_a_warning(
    tmp_path: Path, name: str, codec: str, rate_hz: int
) -> None:
    source = encode(tmp_path / name, codec, tone(20, rate_hz), rate_hz)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    recording = convert(source, tmp_path / "out.wav")
    assert 8 < recording.duration_s < 12
    assert "truncated_recording" in {warning.code for warning in recording.warnings}


def test_a_cut_ready_recording_is_read_in_place_with_a_warning(tmp_path: Path) -> None:
    source = write_ready(tmp_path / "in", tone(10))
    source.write_bytes(source.read_bytes()[: 44 + 2 * 16_000 * 4])
    recording = convert(source, tmp_path / "out.wav")
    assert not recording.converted
    assert recording.duration_s == 4
    (warning,) = recording.warnings
    assert warning.code == "truncated_recording"
    assert "announces 10.0 s of sound and holds 4.0 s" in warning.reason


def test_damaged_packets_are_left_out_with_a_warning(tmp_path: Path) -> None:
    source = encode(tmp_path / "in.flac", "flac", tone(10, 44_100), 44_100)
    content = bytearray(source.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    source.write_bytes(content)
    recording = convert(source, tmp_path / "out.wav")
    assert 5 < recording.duration_s < 10.5
    assert recording.warnings


def test_an_older_conversion_is_replaced(tmp_path: Path) -> None:
    source = encode(tmp_path / "in.ogg", "libvorbis", tone(1, 44_100), 44_100)
    (tmp_path / "out.wav").write_bytes(b"half of an older one")
    convert(source, tmp_path / "out.wav")
    assert read_info(tmp_path / "out.wav").is_ready
