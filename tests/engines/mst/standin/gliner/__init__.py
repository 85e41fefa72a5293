"""GLiNER: finds the ordered names where they stand as whole words."""

from __future__ import annotations

import re
from typing import Any

from standin_orders import asked, load, orders


class GLiNER:
    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, **_: object) -> GLiNER:
        load("gliner.load", str(pretrained_model_name_or_path))
        return cls(str(pretrained_model_name_or_path))

    def to(self, _device: object) -> GLiNER:
        return self

    def eval(self) -> GLiNER:
        return self

    def batch_predict_entities(
        self,
        texts: list[str],
        labels: list[str],
        flat_ner: bool = True,
        threshold: float = 0.5,
        multi_label: bool = False,
        **_: object,
    ) -> list[list[dict[str, Any]]]:
        asked("gliner", texts=len(texts), model=self.name, labels=list(labels), threshold=threshold)
        return [_found(text, labels) if threshold <= _SCORE else [] for text in texts]


_SCORE = 0.9


def _found(text: str, labels: list[str]) -> list[dict[str, Any]]:
    return sorted(
        (
            {"start": hit.start(), "end": hit.end(), "text": name, "label": label, "score": _SCORE}
            for name, label in orders()["names"].items()
            if label in labels
            for hit in re.finditer(rf"\b{re.escape(name)}\b", text)
        ),
        key=lambda one: one["start"],
    )
