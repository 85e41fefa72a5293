"""Makes small sound and video files of many kinds."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def tone(length_s: float, rate_hz: int = 16_000, channels: int = 1) -> NDArray[np.int16]:
    """440 Hz at a third of full scale, shape (samples, channels)."""
    at = np.arange(int(length_s * rate_hz)) / rate_hz
    wave_form = (np.sin(2 * np.pi * 440 * at) * 10_000).astype(np.int16)
    return np.repeat(wave_form[:, np.newaxis], channels, axis=1)


def write_ready(path: Path, samples: NDArray[np.int16]) -> Path:
    """A 16 kHz mono 16-bit WAV, with the plain header of 44 bytes."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def encode(path: Path, codec: str, samples: NDArray[np.int16], rate_hz: int) -> Path:
    """``samples`` of shape (n, channels) in the container that the path's suffix names."""
    layout = "stereo" if samples.shape[1] == 2 else "mono"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(
            stream.codec_context.format, layout, rate_hz, frame_size=stream.codec_context.frame_size or 1024
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def video_without_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def copied(source: Path, target: Path, **options: str) -> Path:
    """The same packets in a container that is written with the muxer's ``options``."""
    with av.open(str(source)) as given, av.open(str(target), "w", options=options) as made:
        track = given.streams.audio[0]
        copy = made.add_stream_from_template(track)
        for packet in given.demux(track):
            if packet.dts is not None:
                packet.stream = copy
                made.mux(packet)
    return target
