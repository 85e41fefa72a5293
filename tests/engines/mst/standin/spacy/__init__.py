"""Sentences end at a stop with a blank behind it, or at a full stop before a capital.

So "ditch?No" holds two of them together, as with the real one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from standin_orders import asked
from standin_orders import load as _load

if TYPE_CHECKING:
    from collections.abc import Iterator

_SENTENCE = re.compile(r".*?(?:[.!?](?:\s+|$)|(?<=[a-z])\.(?=[A-Z]))|.+$", re.DOTALL)


@dataclass(frozen=True)
class Span:
    text_with_ws: str
    start_char: int

    @property
    def text(self) -> str:
        return self.text_with_ws.rstrip()

    @property
    def end_char(self) -> int:
        return self.start_char + len(self.text)


@dataclass(frozen=True)
class Doc:
    text: str

    @property
    def sents(self) -> Iterator[Span]:
        for found in _SENTENCE.finditer(self.text):
            yield Span(found.group(), found.start())


@dataclass
class Language:
    max_length: int = 1_000_000
    pipe_names: list[str] = field(default_factory=lambda: ["tok2vec", "parser", "ner"])

    def add_pipe(self, name: str, **_: object) -> None:
        self.pipe_names.append(name)

    def __call__(self, text: str) -> Doc:
        asked("spacy", characters=len(text))
        if len(text) > self.max_length:
            raise ValueError(f"[E088] Text of length {len(text)} exceeds maximum of {self.max_length}.")
        return Doc(text)


def load(name: str, **_: object) -> Language:
    _load("spacy.load", str(name))
    return Language()
