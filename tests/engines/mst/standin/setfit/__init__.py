"""A classifier that takes "my name is ..." for an introduction."""

from __future__ import annotations

import re

from standin_orders import asked, load

_INTRODUCTION = re.compile(r"\bmy name is\b", re.IGNORECASE)


class SetFitModel:
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, **_: object) -> SetFitModel:
        load("setfit.load", str(pretrained_model_name_or_path))
        return cls()

    def to(self, _device: object) -> SetFitModel:
        return self

    def predict(
        self,
        inputs: list[str],
        batch_size: int = 32,
        as_numpy: bool = False,
        use_labels: bool = True,
        show_progress_bar: bool | None = None,
    ) -> list[str]:
        asked("setfit", texts=len(inputs))
        if not inputs:
            raise ValueError("Expected 2D array, got 1D array instead:\narray=[].")
        return ["introduction" if _INTRODUCTION.search(text) else "other" for text in inputs]
