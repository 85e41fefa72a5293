"""Any audio or video file becomes a 16 kHz mono 16-bit WAV, streamed: memory does not grow with length.

What is broken beyond use raises NotAudio; what is only cut short gives the part that is there and a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import av
from av.error import FFmpegError

from worker.engines.protocol import EngineWarning
from worker.errors import InputMissing, NotAudio
from worker.sources.wav import RATE_HZ, SAMPLE_BYTES, BadWav, WavInfo, header, read_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

STEP = "convert"
# Containers of sound only. Playlists (hls, concat, dash ...) are left out: they would make FFmpeg open
# other files and addresses that the sender of a recording names.
FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,m4v,matroska,webm,mov,mp4,mp3,"
    "mpeg,mpegts,mxf,ogg,opus,tta,voc,w64,wav,wv"
)
# Beyond these a header is wrong, or made to blow a small file up to hours of samples.
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
CHECK_EVERY_BYTES = 8 * 1024**2
_SHORT_BY_S = 0.5  # containers round their durations, and codecs trim; less than this is no loss
_SHORT_BY = 0.02
_REMEDY = "send a complete audio or video file (WAV, MP3, M4A, OGG, MP4 ...)"


@dataclass(frozen=True)
class Recording:
    """A recording that engines can read.

    ``path`` is the source itself where no conversion was needed (``converted`` is False).
    ``duration_s`` is of the sound that is there, whatever the file's header claims.
    """

    path: Path
    duration_s: float
    warnings: tuple[EngineWarning, ...] = ()
    converted: bool = True


@dataclass
class _Pass:
    """What one pass over a file brought."""

    written_bytes: int = 0
    expected_s: float = 0.0  # as the container announces it; 0: it does not
    checked_bytes: int = 0  # written when ``check`` was last called
    damaged: int = 0  # packets that could not be decoded

    @property
    def written_s(self) -> float:
        return self.written_bytes / SAMPLE_BYTES / RATE_HZ


def convert(source: Path, target: Path, check: Callable[[], None] = lambda: None) -> Recording:
    """Make ``source`` readable for engines, writing ``target`` only where it must be converted.

    ``target`` appears whole or not at all; an older one is replaced. Safe to repeat. ``check`` is called
    every CHECK_EVERY_BYTES written; what it raises ends the conversion.
    Raises NotAudio, InputMissing, or OSError where the disk is full.
    """
    info = _wav_info(source)
    if info is not None and info.is_ready:
        return _as_it_is(source, info)
    part = target.with_name(target.name + ".part")
    try:
        done = _write(source, part, check)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    if info is not None and info.claimed_bytes:
        # A WAV's header is exact, and FFmpeg has already corrected it by the file's size.
        done.expected_s = done.written_s * info.claimed_bytes / max(1, info.data_bytes)
    return Recording(target, done.written_s, _warnings(done))


def _wav_info(source: Path) -> WavInfo | None:
    """None for what is no WAV, or one so broken that only FFmpeg may make sense of it."""
    try:
        if source.stat().st_size == 0:
            raise NotAudio(f"the file is empty: {_REMEDY}")
        return read_info(source)
    except FileNotFoundError as exc:
        raise InputMissing("the recording is not in the cache: submit it again") from exc
    except BadWav:
        return None


def _as_it_is(source: Path, info: WavInfo) -> Recording:
    if info.data_bytes < SAMPLE_BYTES:
        raise NotAudio(f"the file holds no sound: {_REMEDY}")
    missing_s = info.missing_bytes / SAMPLE_BYTES / RATE_HZ
    done = _Pass(info.data_bytes, expected_s=info.duration_s + missing_s)
    return Recording(source, info.duration_s, _warnings(done), converted=False)


def _write(source: Path, part: Path, check: Callable[[], None]) -> _Pass:
    done = _Pass()
    with part.open("wb") as file:
        file.write(header(0))
        try:
            _decode_into(file, source, done, check)
        except FFmpegError as exc:
            raise NotAudio(f"no audio or video that can be read ({exc.strerror}): {_REMEDY}") from exc
        file.seek(0)
        file.write(header(done.written_bytes))
    if not done.written_bytes:
        raise NotAudio(f"the file holds no sound that can be decoded: {_REMEDY}")
    return done


def _decode_into(file: BinaryIO, source: Path, done: _Pass, check: Callable[[], None]) -> None:
    # The prefix keeps FFmpeg from reading a protocol out of the path.
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    with av.open(f"file:{source.absolute()}", options=options) as container:
        stream = _audio_track(container)
        done.expected_s = _announced_s(container, stream)
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
        for frame in _frames(container, stream, done):
            for mono in resampler.resample(frame):
                _append(file, mono, done)
                if done.written_bytes - done.checked_bytes >= CHECK_EVERY_BYTES:
                    done.checked_bytes = done.written_bytes
                    check()
        _flush(file, resampler, done)


def _audio_track(container: InputContainer) -> AudioStream:
    if not container.streams.audio:
        raise NotAudio(f"the file has no audio track: {_REMEDY}")
    stream = container.streams.audio[0]
    # Without a decoder PyAV has no context, and decoding would crash the process.
    if stream.codec_context is None:
        raise NotAudio(f"the file's audio is in a format that can't be decoded: {_REMEDY}")
    if not MIN_RATE_HZ <= stream.rate <= MAX_RATE_HZ:
        raise NotAudio(f"a sample rate of {stream.rate} Hz is no recording's: {_REMEDY}")
    return stream


def _frames(container: InputContainer, stream: AudioStream, done: _Pass) -> Iterator[AudioFrame]:
    """Decoded frames; what is damaged is counted and left out."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:  # the container breaks off: what came before stays good
            done.damaged += 1
            return
        if packet is None:
            return
        try:
            yield from stream.decode(packet)
        except FFmpegError:
            done.damaged += 1


def _append(file: BinaryIO, frame: AudioFrame, done: _Pass) -> None:
    # A plane's buffer is padded for alignment beyond its samples.
    done.written_bytes += file.write(bytes(frame.planes[0])[: frame.samples * SAMPLE_BYTES])


def _flush(file: BinaryIO, resampler: av.AudioResampler, done: _Pass) -> None:
    for frame in resampler.resample(None):
        _append(file, frame, done)


def _announced_s(container: InputContainer, stream: AudioStream) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def _warnings(done: _Pass) -> tuple[EngineWarning, ...]:
    found = []
    short_s = done.expected_s - done.written_s
    if short_s > max(_SHORT_BY_S, _SHORT_BY * done.expected_s):
        reason = f"the file announces {done.expected_s:.1f} s of sound and holds {done.written_s:.1f} s"
        found.append(EngineWarning("truncated_recording", STEP, reason))
    if done.damaged:
        reason = f"{done.damaged} damaged packets were left out"
        found.append(EngineWarning("damaged_recording", STEP, reason))
    return tuple(found)
