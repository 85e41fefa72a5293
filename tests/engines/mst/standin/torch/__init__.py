"""What mst's modules and its callers take from torch; a tensor is numpy's array."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import cuda as cuda
from .errors import OutOfMemoryError as OutOfMemoryError

float32 = np.float32
inference_mode = no_grad = nullcontext


class Tensor(np.ndarray[Any, Any]):
    def cpu(self) -> Tensor:
        return self

    def detach(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return np.asarray(self)

    def to(self, *_: object, **__: object) -> Tensor:
        return self


@dataclass(frozen=True)
class device:  # noqa: N801  torch's name
    type: str


def from_numpy(array: Any) -> Tensor:
    return np.asarray(array).view(Tensor)


def tensor(values: Any, **_: object) -> Tensor:
    return np.array(values).view(Tensor)


def stack(tensors: Any, dim: int = 0) -> Tensor:
    return np.stack(tensors, axis=dim).view(Tensor)


def set_num_threads(_count: int) -> None:
    pass
