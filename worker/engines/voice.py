"""Where somebody speaks: Silero's voice-activity model over a window, and the stretches it makes.

The model is the one that faster-whisper 1.2.1 ships. It is run here, not by ``get_speech_timestamps``,
because that runs a whole window in one go (hundreds of MB of intermediate values for ten minutes) and
cannot be asked for the pauses, which is where windows and chunks are cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

RATE_HZ = 16_000
FRAME_SAMPLES = 512  # what the model judges at once, at 16 kHz
FRAME_S = FRAME_SAMPLES / RATE_HZ
_CONTEXT_SAMPLES = 64  # of the frame before, which the model wants in front of each
_STATE_SHAPE = (1, 1, 128)
_FRAMES_PER_RUN = 250  # 8 s: as fast as 32 s, and holds 15 MB less

# Silero's own defaults for the two thresholds. The rest was chosen on the benchmark's recording: pauses of
# half a second part stretches, and 0.2 s of margin keep soft first and last sounds.
SPEECH_FROM = 0.5
SPEECH_UNTIL = 0.35
MIN_PAUSE_S = 0.5
MIN_SPEECH_S = 0.1
MARGIN_S = 0.2


@dataclass(frozen=True)
class Stretch:
    """Speech from ``start_s`` to ``end_s``."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


def load_voice_model() -> Any:
    """The onnxruntime session. Raises whatever onnxruntime raises where it can't be loaded."""
    from faster_whisper.vad import get_vad_model  # noqa: PLC0415  heavy: engines import late

    return get_vad_model().session


def speech_probabilities(
    session: Any,
    audio: NDArray[np.float32],
    check: Callable[[], None],
) -> NDArray[np.float32]:
    """How likely each frame of 512 samples is speech.

    ``audio`` is float32 of shape (n,) at 16 kHz; the result has shape (ceil(n / 512),), each in [0, 1].
    """
    state = np.zeros(_STATE_SHAPE, np.float32)
    cell = np.zeros(_STATE_SHAPE, np.float32)
    parts = [np.zeros(0, np.float32)]
    for block in _framed(audio):
        check()
        output, state, cell = session.run(None, {"input": block, "h": state, "c": cell})
        parts.append(output.reshape(-1))
    return np.concatenate(parts)


def _framed(audio: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Blocks of frames, each frame behind the end of the one before: shape (k, 64 + 512)."""
    count = -(-len(audio) // FRAME_SAMPLES)
    padded = np.zeros(_CONTEXT_SAMPLES + count * FRAME_SAMPLES, np.float32)
    padded[_CONTEXT_SAMPLES : _CONTEXT_SAMPLES + len(audio)] = audio
    width = _CONTEXT_SAMPLES + FRAME_SAMPLES
    frames = np.lib.stride_tricks.sliding_window_view(padded, width)[::FRAME_SAMPLES] if count else padded[:0]
    for first in range(0, count, _FRAMES_PER_RUN):
        yield np.ascontiguousarray(frames[first : first + _FRAMES_PER_RUN])


def speech_stretches(probabilities: NDArray[np.float32]) -> list[Stretch]:
    """Stretches of speech with margins, in order and apart; times from the first frame on.

    Speech begins at SPEECH_FROM and lasts until it has stayed below SPEECH_UNTIL for MIN_PAUSE_S. What is
    shorter than MIN_SPEECH_S is a click. Margins of neighbours meet in the middle of a short pause.
    """
    runs = [run for run in _runs(probabilities) if (run[1] - run[0]) * FRAME_S >= MIN_SPEECH_S]
    total_s = len(probabilities) * FRAME_S
    stretches = []
    for index, (first, last) in enumerate(runs):
        before_s = runs[index - 1][1] * FRAME_S if index else 0.0
        after_s = runs[index + 1][0] * FRAME_S if index + 1 < len(runs) else total_s
        lead = (before_s + first * FRAME_S) / 2 if index else 0.0
        trail = (after_s + last * FRAME_S) / 2 if index + 1 < len(runs) else total_s
        stretches.append(
            Stretch(max(first * FRAME_S - MARGIN_S, lead), min(last * FRAME_S + MARGIN_S, trail))
        )
    return stretches


def _runs(probabilities: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Frames [first, last) of each run of speech."""
    first: int | None = None
    quiet_since: int | None = None
    for frame, value in enumerate(probabilities.tolist()):
        if value >= SPEECH_FROM:
            first = frame if first is None else first
            quiet_since = None
        elif first is not None and (quiet_since is not None or value < SPEECH_UNTIL):
            quiet_since = frame if quiet_since is None else quiet_since
            if (frame - quiet_since) * FRAME_S >= MIN_PAUSE_S:
                yield first, quiet_since
                first = quiet_since = None
    if first is not None:
        yield first, len(probabilities) if quiet_since is None else quiet_since
