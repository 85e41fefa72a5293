"""Recordings with known words, and word error rates."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import TYPE_CHECKING

import jiwer
import numpy as np

from worker.sources.pcm import PcmReader

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = Path(__file__).parent.parent / "data"
TWO_CITIES = """It was the best of times, it was the worst of times, it was the age of wisdom, it was the
age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of light,
it was the season of darkness, it was the spring of hope, it was the winter of despair, we had everything
before us, we had nothing before us, we were all going direct to heaven, we were all going direct the other
way. In short, the period was so far like the present period, that some of its noisiest authorities insisted
on its being received, for good or for evil, in the superlative degree of comparison only."""


def human(name: str) -> Path:
    """A recording of the moonshine-voice wheel: two_cities.wav reads the text above."""
    wheel = importlib.metadata.distribution("moonshine-voice")
    return Path(str(wheel.locate_file(f"moonshine_voice/assets/{name}")))


def samples(recording: Path) -> NDArray[np.int16]:
    """The sound of a converted recording."""
    with PcmReader(recording) as pcm:
        return (pcm.read(0, pcm.duration_s) * 32767).astype(np.int16)


def word_errors(expected: str, heard: str) -> float:
    return float(jiwer.wer(plain(expected), plain(heard)))


def plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower().replace("\n", " ")).split())
