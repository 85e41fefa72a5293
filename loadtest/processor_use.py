"""How much of a core each kind of process takes, over a span of a load run."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

SAMPLE_S = 1.0


class ProcessorUse:
    """Samples from its entry to its exit. A kind's processes' children count with it."""

    def __init__(self, pids: Mapping[str, Sequence[int]]) -> None:
        self._pids = pids
        self._samples: list[tuple[float, dict[str, float]]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def cores(self, began_at: float | None = None, ended_at: float | None = None) -> dict[str, float]:
        """Between two epoch times, by the samples next to them; the whole span where they are left out."""
        times = [at for at, _ in self._samples]
        first = 0 if began_at is None else min(bisect_left(times, began_at), len(times) - 1)
        last = len(times) - 1 if ended_at is None else min(bisect_left(times, ended_at), len(times) - 1)
        span_s = times[last] - times[first]
        if not span_s:
            return dict.fromkeys(self._pids, 0.0)
        before, after = self._samples[first][1], self._samples[last][1]
        return {kind: (after[kind] - before[kind]) / span_s for kind in self._pids}

    def _sample(self) -> None:
        used = dict.fromkeys(self._pids, 0.0)
        while True:
            # Never less than before: what a process used is no longer told once it has gone.
            used = {kind: max(used[kind], sum(map(used_s, pids))) for kind, pids in self._pids.items()}
            self._samples.append((time.time(), used))
            if self._over.wait(SAMPLE_S):
                return


def used_s(pid: int) -> float:
    """Processor seconds of a process and its living children; 0 where it has gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(sum(one.cpu_times()[:2]) for one in family)
    except psutil.NoSuchProcess:
        return 0.0
