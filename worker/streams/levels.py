"""Three levels of priority, and the order in which a worker reads them. Pure functions.

Celery's ``priority`` is 0 to 9, more is more urgent. Kombu turns none into 0, so 0 must mean none.
"""

from __future__ import annotations

from typing import Literal

Level = Literal["high", "normal", "low"]

LEVELS: tuple[Level, ...] = ("high", "normal", "low")
_LOW_FROM, _NORMAL_FROM, _HIGH_FROM = 1, 4, 7
_NORMAL_EVERY, _LOW_EVERY = 4, 8


def level_of(priority: int) -> Level:
    """1 to 3 is low, 7 to 9 high, anything else normal."""
    if priority >= _HIGH_FROM:
        return "high"
    return "low" if _LOW_FROM <= priority < _NORMAL_FROM else "normal"


def reading_order(turn: int) -> tuple[Level, ...]:
    """The levels, first to last, at a worker's read number ``turn``, from 0.

    Most urgent first; but every 8th read looks at low first, and every other 4th at normal. So where all
    levels have work, 6 of 8 entries are high, 1 normal, 1 low: none waits for ever.
    """
    number = turn + 1
    first: Level = "high"
    if number % _LOW_EVERY == 0:
        first = "low"
    elif number % _NORMAL_EVERY == 0:
        first = "normal"
    return (first, *(level for level in LEVELS if level != first))
