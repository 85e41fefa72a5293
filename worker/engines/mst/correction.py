"""Misspelt names become the name as it was found elsewhere; all else stays as it was said.

By mst's model and threshold; but mst compares words with their punctuation, drops it and the case, and
takes a word for any name of near meaning ("Monday" for "Tuesday", "state" for "States"). Here only a word
with a capital can be a name, its letters must be near, and another ending is another word.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.engines.mst.rows import Row

LIKE_LETTERS = 0.75  # of difflib's ratio: one letter too many in a word of four to eight
SHORTEST = 4  # letters; shorter words are like too many others
# Behind a name these make its plural, its people, what is its own.
_ENDINGS = frozenset(
    ("s", "es", "n", "an", "ian", "ean", "al", "ial", "ic", "ish", "er", "or", "ed", "ing", "ly")
)
_DOUBLED = re.compile(r"(\w)\1$")
# A word's letters; a possessive 's is no part of it.
_WORD = re.compile(r"[^\W\d_]+(?:[-'’](?!s\b)[^\W\d_]+)*")  # noqa: RUF001  the apostrophe of print


def correct(
    rows: list[Row], names: Iterable[str], encode: Callable[[list[str]], Any], threshold: float
) -> list[Row]:
    """``encode`` gives a vector for each word, each asked for once; ``threshold`` is of their cosine."""
    known = {_plain(word): word for name in names for word in _words(name)}
    said = sorted({_plain(word) for row in rows for word in _words(row["transcript"])} - set(known))
    if not known or not said:
        return rows
    instead = _nearest(said, sorted(known), encode, threshold)

    def replaced(found: re.Match[str]) -> str:
        word = instead.get(_plain(found.group())) if found.group()[0].isupper() else None
        return known[word] if word else found.group()

    return [{**row, "transcript": _WORD.sub(replaced, row["transcript"])} for row in rows]


def _words(text: str) -> list[str]:
    """Those that may be names, or parts of one."""
    return [word for word in _WORD.findall(text) if len(word) >= SHORTEST and word[0].isupper()]


def _plain(word: str) -> str:
    return word.lower().replace("’", "'")  # noqa: RUF001  the apostrophe of print


def _nearest(
    said: list[str], known: list[str], encode: Callable[[list[str]], Any], threshold: float
) -> dict[str, str]:
    """The known word for each word that is nearly one."""
    vectors = np.asarray(encode([*said, *known]), dtype=np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    likeness = vectors[: len(said)] @ vectors[len(said) :].T
    best = likeness.argmax(axis=1)
    return {
        word: known[best[at]]
        for at, word in enumerate(said)
        if likeness[at, best[at]] > threshold and _is_misspelt(word, known[best[at]])
    }


def _is_misspelt(word: str, name: str) -> bool:
    if SequenceMatcher(None, word, name, autojunk=False).ratio() < LIKE_LETTERS:
        return False
    short, long = sorted((word, name), key=len)
    ending = long.removeprefix(short)
    # A doubled last letter is a slip ("Rivertonn"), no ending.
    return (
        len(ending) == len(long) or ending not in _ENDINGS or bool(_DOUBLED.search(long) and len(ending) == 1)
    )
