"""Makes meeting.wav and meeting.txt: two voices plan a move of their library, in a text of our own.

Needs espeak-ng on the PATH. The kept files were made by ``python tests/data/make_meeting.py`` with
espeak-ng 1.51; pass another folder to make them there.
"""

from __future__ import annotations

import io
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np

RATE_HZ = 16_000
PAUSE_S = 0.7
VOICES = {"Anna": ("en-us+f3", 150, 60), "Paul": ("en-us", 150, 45)}  # name, words a minute, pitch
LINES = (
    ("Anna", "Good morning, Paul. Today we talk about the new library."),
    ("Paul", "Good morning, Anna. The books come on Monday morning."),
    ("Anna", "How many books do we expect this week?"),
    ("Paul", "We expect many books and a few old maps."),
    ("Anna", "We also need more tables near the big window."),
    ("Paul", "I will order the tables today and call you tomorrow."),
    ("Anna", "That sounds good. We will meet again next week."),
)


def spoken(speaker: str, text: str) -> np.ndarray:
    """16-bit samples at RATE_HZ."""
    voice, words_per_minute, pitch = VOICES[speaker]
    command = ["espeak-ng", "-v", voice, "-s", str(words_per_minute), "-p", str(pitch), "--stdout", text]
    made = subprocess.run(command, check=True, capture_output=True).stdout
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    with av.open(io.BytesIO(made)) as container:
        frames = [frame for one in container.decode(audio=0) for frame in resampler.resample(one)]
    return np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]])


def main(folder: Path) -> None:
    pause = np.zeros(int(PAUSE_S * RATE_HZ), np.int16)
    samples = np.concatenate([part for line in LINES for part in (spoken(*line), pause)])
    with wave.open(str(folder / "meeting.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())
    (folder / "meeting.txt").write_text("\n".join(text for _, text in LINES) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
