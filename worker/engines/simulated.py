"""The engine ``simulated``: takes time and hears nothing, for load and failure tests. Never a default.

A script, a JSON object or the path of a file with one, says how it behaves; all keys may be left out:

    speed      times real time at which the recording is "transcribed" (default 60)
    misbehave  what to do on the way, one of MISBEHAVIOURS (default: nothing)
    at         the fraction of the recording at which to do it, from 0 to 1 (default 0.5)
    once       path of a marker file: misbehave only where it does not exist yet, and create it
    mib        MiB to fill, for "fill_memory" (default 256)
    vram_mib   MiB of the GPU that it says it needs, and takes when it is loaded (default 0)
    vram_at    a folder: it takes them by a file <CUDA_VISIBLE_DEVICES>.<process id>, as tests' NVML reads it
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from worker.cache.folder import write_durably
from worker.engines.protocol import Options, Progress, Segment, Transcript
from worker.errors import EngineFailed, EngineUnavailable, OutOfGpuMemory
from worker.sources.wav import read_info

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.engines.protocol import Checkpoints

STEP = "simulate"
SENTENCE_S = 5.0
_TICK_S = 0.05


@dataclass(frozen=True)
class Script:
    """See the module's text."""

    speed: float = 60.0
    misbehave: str = ""
    at: float = 0.5
    once: str = ""
    mib: int = 256
    vram_mib: int = 0
    vram_at: str = ""

    @classmethod
    def parse(cls, text: str) -> Script:
        """Raises EngineUnavailable for what is no script."""
        try:
            source = text if text.lstrip().startswith("{") else Path(text).read_text()
            script = cls(**_known(json.loads(source)))
            script.check()
        except (OSError, TypeError, ValueError) as exc:
            raise EngineUnavailable(f"SIMULATED_SCRIPT: {exc}") from exc
        return script

    def check(self) -> None:
        if self.misbehave and self.misbehave not in MISBEHAVIOURS:
            raise EngineUnavailable(f"SIMULATED_SCRIPT: misbehave is one of {', '.join(MISBEHAVIOURS)}")
        if self.speed <= 0:
            raise EngineUnavailable("SIMULATED_SCRIPT: speed must be above 0")


def _known(values: dict[str, Any]) -> dict[str, Any]:
    unknown = set(values) - {one.name for one in fields(Script)}
    if unknown:
        raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")
    return values


@dataclass
class SimulatedEngine:
    """Deterministic: the same recording gives the same text."""

    script: Script = field(default_factory=Script)
    on_cpu: bool = False
    name: ClassVar[str] = "simulated"

    @classmethod
    def from_script(cls, text: str) -> SimulatedEngine:
        """``text`` is JSON, a path, or empty for the defaults. Raises EngineUnavailable."""
        return cls(Script.parse(text) if text else Script())

    def prepare(self) -> None:
        if self.script.vram_at and not self.on_cpu:
            write_durably(self._claim, b"%d" % self.script.vram_mib)

    def transcribe(
        self,
        recording: Path,
        options: Options,  # noqa: ARG002  the protocol's
        report: Callable[[Progress], None],
        check: Callable[[], None],
        checkpoints: Checkpoints,  # noqa: ARG002  it begins anew each time
    ) -> Transcript:
        """See Engine."""
        self.prepare()
        duration_s = read_info(recording).duration_s
        self._spend(duration_s, report, check)
        return Transcript(self.name, "none", "en", duration_s, _sentences(duration_s))

    def relieve(self) -> bool:
        return False

    def move_to_cpu(self) -> None:
        self.on_cpu = True
        self._claim.unlink(missing_ok=True)

    @property
    def _claim(self) -> Path:
        device = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return Path(self.script.vram_at) / f"{device}.{os.getpid()}"

    def _spend(
        self, duration_s: float, report: Callable[[Progress], None], check: Callable[[], None]
    ) -> None:
        started = time.monotonic()
        behaves = not self.script.misbehave
        fraction = 0.0
        while fraction < 1:
            check()
            fraction = _fraction((time.monotonic() - started) * self.script.speed, duration_s)
            report(Progress(STEP, 1, 1, fraction, fraction * duration_s, duration_s))
            if not behaves and fraction >= self.script.at:
                behaves = True
                self._misbehave()
            time.sleep(min(_TICK_S, duration_s / self.script.speed) if fraction < 1 else 0)

    def _misbehave(self) -> None:
        if self.script.once:
            try:
                Path(self.script.once).touch(exist_ok=False)
            except FileExistsError:
                return
        MISBEHAVIOURS[self.script.misbehave](self.script)


def _fraction(done_s: float, duration_s: float) -> float:
    return min(1.0, done_s / duration_s) if duration_s else 1.0


def _sentences(duration_s: float) -> tuple[Segment, ...]:
    count = int(-(-duration_s // SENTENCE_S))
    return tuple(
        Segment(
            index * SENTENCE_S,
            min(duration_s, (index + 1) * SENTENCE_S),
            f"This is sentence {index + 1} of {count}.",
        )
        for index in range(count)
    )


def _raise(_script: Script) -> None:
    raise EngineFailed("the simulated engine failed, as its script says")


def _crash(_script: Script) -> None:
    raise RuntimeError("the simulated engine crashed, as its script says")


def _gpu_oom(_script: Script) -> None:
    raise OutOfGpuMemory("the simulated GPU is full, as its script says")


def _cuda_error(_script: Script) -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")  # PyTorch's words


def _exit(_script: Script) -> None:
    os._exit(3)


def _kill(_script: Script) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(_script: Script) -> None:
    while True:
        time.sleep(3600)


def _hang_stubbornly(script: Script) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _hang(script)


def _fill_memory(script: Script) -> None:
    """Hold ``mib`` MiB of touched pages for a second; MemoryError where a limit forbids it."""
    held = bytearray(os.urandom(1024)) * 1024 * script.mib
    time.sleep(1)
    del held


def _no_space(_script: Script) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


MISBEHAVIOURS: dict[str, Callable[[Script], None]] = {
    "raise": _raise,
    "crash": _crash,
    "gpu_oom": _gpu_oom,
    "cuda_error": _cuda_error,
    "exit": _exit,
    "kill": _kill,
    "hang": _hang,
    "hang_stubbornly": _hang_stubbornly,
    "fill_memory": _fill_memory,
    "no_space": _no_space,
}
