"""Mutated recordings, the same ones for the same seed, and a process of its own that converts them.

    python -m tests.sources.mutants FOLDER SEED COUNT

It prints a line for each: the number before it is converted, so that a death names its mutant.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from tests.sources.audio_files import encode, tone, write_ready
from worker.errors import NotAudio, TooLong
from worker.sources.convert import convert

LONGEST_S = 30.0
KINDS = [
    ("a.wav", "pcm_s24le", 44_100),
    ("b.wav", "pcm_mulaw", 8_000),
    ("c.mp3", "libmp3lame", 44_100),
    ("d.m4a", "aac", 44_100),
    ("e.ogg", "libvorbis", 44_100),
    ("f.opus", "libopus", 48_000),
    ("g.flac", "flac", 44_100),
    ("h.webm", "libopus", 48_000),
    ("i.mkv", "aac", 16_000),
    ("j.mov", "pcm_s16le", 16_000),
    ("k.w64", "pcm_s16le", 16_000),
]
# What headers are made of: sizes, counts and rates at their edges.
_EDGES = [
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\1",
    b"\x80\0\0\0",
]


def originals(folder: Path) -> list[bytes]:
    paths = [encode(folder / name, codec, tone(0.4, rate), rate) for name, codec, rate in KINDS]
    paths.append(write_ready(folder / "ready.wav", tone(0.4)))
    return [path.read_bytes() for path in paths]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """One to eight faults, half of them where headers lie."""
    made = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        reach = min(len(made), 400) if chance.random() < 0.5 else len(made)
        at = chance.randrange(max(1, reach))
        match chance.randrange(6):
            case 0:
                made[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                made[at : at + 4] = chance.choice(_EDGES)
            case 2:
                del made[at : at + chance.randint(1, 64)]
            case 3:
                made[at:at] = chance.randbytes(chance.randint(1, 64))
            case 4:
                made[at:at] = made[at : at + chance.randint(1, 200)]
            case _:
                del made[max(at, 16) :]
    return bytes(made)


def outcome(source: Path, target: Path) -> str:
    """What became of it; any exception but these two is a fault."""
    try:
        recording = convert(source, target, max_duration_s=LONGEST_S)
    except (NotAudio, TooLong) as exc:
        return exc.code
    return "warned" if recording.warnings else "whole"


def main() -> None:
    folder, chance, count = Path(sys.argv[1]), random.Random(int(sys.argv[2])), int(sys.argv[3])
    given = originals(folder)
    for number in range(count):
        (folder / "in").write_bytes(mutated(given[number % len(given)], chance))
        sys.stdout.write(f"{number} ")
        sys.stdout.flush()
        sys.stdout.write(f"{outcome(folder / 'in', folder / 'out.wav')}\n")


if __name__ == "__main__":
    main()
