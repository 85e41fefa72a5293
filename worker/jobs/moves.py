"""Who may move a job from one state to another, and what came of it; see scripts/move.lua."""

from __future__ import annotations

from enum import StrEnum


class Fence(StrEnum):
    """Who may make a move."""

    HOLD = "hold"
    TAKE = "take"
    LOST = "lost"
    NONE = "none"


class MoveOutcome(StrEnum):
    MOVED = "moved"
    GONE = "gone"
    ENDED = "ended"
    ILLEGAL = "illegal"
    LOST = "lost"
    DUPLICATE = "duplicate"
    NEWER = "newer"
