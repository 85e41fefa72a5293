"""Cosines, and the error of an empty side."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def cos_sim(a: Any, b: Any) -> Any:
    left, right = np.atleast_2d(np.asarray(a)), np.asarray(b)
    if right.size == 0:
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({left.shape[0]}x{left.shape[1]} and 0x1)"
        )
    right = np.atleast_2d(right)
    lengths = np.linalg.norm(left, axis=1)[:, None] * np.linalg.norm(right, axis=1)[None]
    return (left @ right.T / lengths).view(torch.Tensor)
