"""What the process that consumes adds to the transport: whether it has room, and how to stop an attempt.

One set per process, since a process is one worker. Without a worker, a plain consumer: always room, and
nothing to stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def _room() -> bool:
    return True


def _nothing_to_stop(_lease_id: str) -> bool:
    return True


@dataclass(slots=True)
class Hooks:
    gate: Callable[[], bool] = _room
    stop_attempt: Callable[[str], bool] = _nothing_to_stop


hooks = Hooks()


def set_gate(gate: Callable[[], bool]) -> None:
    """Read new entries only while ``gate()`` is true; what arrives meanwhile goes back, uncounted.

    Called at every turn of the worker's event loop: it must not block, nor raise.
    """
    hooks.gate = gate
