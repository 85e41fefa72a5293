"""Any audio or video file becomes a 16 kHz mono 16-bit WAV, streamed: memory does not grow with length.

What is broken beyond use raises NotAudio; what is only cut short gives the part that is there and a warning.
Headers are not believed: how long a recording is, its decoded sound tells.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import av
from av.error import FFmpegError

from worker.engines.protocol import EngineWarning
from worker.errors import InputMissing, NotAudio, TooLong
from worker.sources.wav import RATE_HZ, SAMPLE_BYTES, BadWav, WavInfo, header, read_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet

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
CHECK_EVERY_S = 1.0  # also where much is read and little comes of it
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

    max_duration_s: float
    written_bytes: int = 0
    expected_s: float = 0.0  # as the container announces it; 0: it does not
    checked_bytes: int = 0  # written when ``check`` was last called
    checked_at: float = field(default_factory=time.monotonic)
    damaged: int = 0  # packets that could not be decoded

    @property
    def written_s(self) -> float:
        return self.written_bytes / SAMPLE_BYTES / RATE_HZ

    def require_length(self) -> None:
        if self.written_s > self.max_duration_s:
            raise TooLong(
                f"the recording is longer than {self.max_duration_s:g} s (MAX_DURATION_S): send it in parts"
            )

    def is_check_due(self) -> bool:
        now = time.monotonic()
        unchecked_bytes = self.written_bytes - self.checked_bytes
        if unchecked_bytes < CHECK_EVERY_BYTES and now - self.checked_at < CHECK_EVERY_S:
            return False
        self.checked_bytes, self.checked_at = self.written_bytes, now
        return True


def convert(
    source: Path,
    target: Path,
    check: Callable[[], None] = lambda: None,
    *,
    max_duration_s: float = math.inf,
) -> Recording:
    """Make ``source`` readable for engines, writing ``target`` only where it must be converted.

    ``target`` appears whole or not at all; an older one is replaced. Safe to repeat. ``check`` is called
    every CHECK_EVERY_BYTES written and about every CHECK_EVERY_S; what it raises ends the conversion.
    Raises NotAudio, TooLong, InputMissing, or OSError where the disk is full.
    """
    info = _wav_info(source)
    if info is not None and info.is_ready:
        return _as_it_is(source, info, max_duration_s)
    part = target.with_name(target.name + ".part")
    try:
        done = _write(source, part, check, max_duration_s)
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


def _as_it_is(source: Path, info: WavInfo, max_duration_s: float) -> Recording:
    if info.data_bytes < SAMPLE_BYTES:
        raise NotAudio(f"the file holds no sound: {_REMEDY}")
    missing_s = info.missing_bytes / SAMPLE_BYTES / RATE_HZ
    done = _Pass(max_duration_s, info.data_bytes, expected_s=info.duration_s + missing_s)
    done.require_length()
    return Recording(source, info.duration_s, _warnings(done), converted=False)


def _write(source: Path, part: Path, check: Callable[[], None], max_duration_s: float) -> _Pass:
    done = _Pass(max_duration_s)
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
    # Tags are in whatever encoding their writer used, and nothing here reads them.
    with av.open(f"file:{source.absolute()}", options=options, metadata_errors="ignore") as container:
        stream = _audio_track(container)
        done.expected_s = _announced_s(container, stream)
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
        for packet in _packets(container, stream, done):
            for frame in _decoded(stream, packet, done):
                for mono in _mixed(resampler, frame):
                    _append(file, mono, done)
            if done.is_check_due():
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


def _packets(container: InputContainer, stream: AudioStream, done: _Pass) -> Iterator[Packet]:
    """The track's packets, up to where the container breaks off: what came before stays good."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:
            done.damaged += 1
            return
        if packet is None:
            return
        yield packet


def _decoded(stream: AudioStream, packet: Packet, done: _Pass) -> Iterator[AudioFrame]:
    """A packet's frames; what is damaged is counted and left out."""
    if packet.has_sidedata("encryption_info"):
        raise NotAudio("the file is encrypted: send it without copy protection")
    try:
        yield from stream.decode(packet)
    except FFmpegError:
        done.damaged += 1


def _mixed(resampler: av.AudioResampler, frame: AudioFrame) -> list[AudioFrame]:
    try:
        return resampler.resample(frame)
    except FFmpegError as exc:
        channels = frame.layout.nb_channels
        raise NotAudio(
            f"the file's {channels} channels can't be mixed into one: send it in mono or stereo"
        ) from exc


def _append(file: BinaryIO, frame: AudioFrame, done: _Pass) -> None:
    # A plane's buffer is padded for alignment beyond its samples.
    done.written_bytes += file.write(bytes(frame.planes[0])[: frame.samples * SAMPLE_BYTES])
    done.require_length()


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
