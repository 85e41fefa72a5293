"""Vectors of a text's letters: like words are near each other, and the same text has the same vector."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from standin_orders import asked, load

from . import util as util

_WIDTH = 64


class SentenceTransformer:
    def __init__(self, model_name_or_path: str | None = None, **_: object) -> None:
        load("sentences.load", str(model_name_or_path))
        self.device = "cpu"

    def to(self, device: Any) -> SentenceTransformer:
        self.device = getattr(device, "type", str(device))
        return self

    def encode(
        self,
        inputs: str | list[str],
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        **_: object,
    ) -> Any:
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        asked("encode", texts=texts)
        vectors = np.array([_vector(text) for text in texts], np.float32)
        made = vectors.view(torch.Tensor) if convert_to_tensor else vectors
        return made[0] if isinstance(inputs, str) else made


def _vector(text: str) -> Any:
    padded = f"^{text.lower()}$"
    vector = np.full(_WIDTH, 1e-3)
    for size in (1, 2, 3):
        for at in range(len(padded) - size + 1):
            vector[zlib.crc32(padded[at : at + size].encode()) % _WIDTH] += 1
    return vector / np.linalg.norm(vector)
