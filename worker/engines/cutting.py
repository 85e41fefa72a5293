"""Where to cut: a recording into windows, a window's speech into chunks that Whisper takes at once.

Pure functions of probabilities and times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worker.engines.voice import FRAME_S, SPEECH_UNTIL, Stretch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

# Whisper hears 30 s at once. A second of silence behind the last word keeps it from guessing how an
# unfinished sentence goes on.
MAX_CHUNK_S = 29.0
# Pauses up to this stay inside a chunk: they cost nothing where the chunk has room, and save encoding a
# chunk of its own. Longer ones invite invented words.
MAX_PAUSE_IN_CHUNK_S = 3.0
_CUT_WITHIN_S = 10.0  # a stretch too long for a chunk is cut in the last 10 s of what fits


def window_cut_s(probabilities: NDArray[np.float32], search_s: float) -> float:
    """Where a window that ends amid the recording is best cut, in seconds from its start.

    The middle of the longest pause in the last ``search_s``, or the frame least like speech where there is
    no pause. The next window begins there.
    """
    frames = len(probabilities)
    first = max(1, frames - round(search_s / FRAME_S))  # never 0: the next window must begin later
    return (_quietest_frame(probabilities, first, frames) if first < frames else frames) * FRAME_S


def pack_chunks(stretches: Iterable[Stretch], probabilities: NDArray[np.float32]) -> list[Stretch]:
    """Chunks of at most MAX_CHUNK_S, in order and apart, that cover all speech.

    Neighbours share a chunk where they fit and the pause between is short.
    """
    chunks: list[Stretch] = []
    for stretch in stretches:
        for piece in _fitting(stretch, probabilities):
            if chunks and _may_join(chunks[-1], piece):
                chunks[-1] = Stretch(chunks[-1].start_s, piece.end_s)
            else:
                chunks.append(piece)
    return chunks


def _may_join(chunk: Stretch, piece: Stretch) -> bool:
    pause_s = piece.start_s - chunk.end_s
    return piece.end_s - chunk.start_s <= MAX_CHUNK_S and pause_s <= MAX_PAUSE_IN_CHUNK_S


def _fitting(stretch: Stretch, probabilities: NDArray[np.float32]) -> list[Stretch]:
    """The stretch, cut at its faintest moments into pieces that fit a chunk."""
    pieces = []
    while stretch.length_s > MAX_CHUNK_S:
        last = int((stretch.start_s + MAX_CHUNK_S) / FRAME_S)
        cut_s = _quietest_frame(probabilities, last - int(_CUT_WITHIN_S / FRAME_S), last) * FRAME_S
        pieces.append(Stretch(stretch.start_s, cut_s))
        stretch = Stretch(cut_s, stretch.end_s)
    return [*pieces, stretch]


def _quietest_frame(probabilities: NDArray[np.float32], first: int, last: int) -> int:
    """The middle of the longest pause among frames [first, last), or the frame least like speech."""
    part = probabilities[first:last]
    edges = np.flatnonzero(np.diff(np.concatenate(([False], part < SPEECH_UNTIL, [False]))))
    if not len(edges):
        return first + int(np.argmin(part))
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return first + int(starts[longest] + ends[longest]) // 2
