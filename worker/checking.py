"""``python -m worker check``, ``prefetch`` and ``health``: can a worker work here, and does it?"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from worker.engines.choice import choose
from worker.errors import EngineUnavailable, OutOfGpuMemory
from worker.gpu.report import read_reports
from worker.gpu.verdict import Colour, judge_all
from worker.patience import AWAY
from worker.resources import create_client

if TYPE_CHECKING:
    from worker.settings import Settings


def check_engine(settings: Settings) -> int:
    """Load the engine and say so in one line; 1 where it can't be loaded."""
    from worker.engines.registry import create  # noqa: PLC0415  only here may this process load an engine

    choice = choose(settings)
    try:
        create(choice.name, settings).prepare()
    except (EngineUnavailable, OutOfGpuMemory) as exc:
        sys.stderr.write(f"error: {exc.message}\n")
        return 1
    sys.stdout.write(f"engine {choice.name} is ready ({choice.reason})\n")
    return 0


def prefetch(settings: Settings) -> int:
    """Bring the models of the engine here, into HF_HOME, by loading it once on the CPU.

    Loading finds what the engine really asks for, the parts that its libraries fetch by themselves included.
    """
    return check_engine(settings.model_copy(update={"device": "cpu"}))


def health(settings: Settings, host: str) -> int:
    """Whether this machine's workers can work, in one line; 1 where none can. For a container's check."""
    now = time.time()
    try:
        reports = read_reports(create_client(settings, timeout_s=3.0), now)
    except AWAY:
        sys.stderr.write("error: Redis does not answer: see REDIS_URL\n")
        return 1
    verdict = judge_all([one for one in reports if one.worker.endswith(f"@{host}")], now).verdict
    sys.stdout.write(f"{verdict.colour}: {verdict.reason}\n")
    return int(verdict.colour is Colour.RED)
