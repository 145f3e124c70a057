"""Means that are 0, with a gradient, where there is nothing to average; and numbers per class as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def mean_over(values: Tensor, weights: Tensor) -> Tensor:
    """sum(values) / sum(weights): values come weighted already, and are 0 where their weights are; 0 if all are."""
    total = weights.sum()
    return values.sum() / torch.where(total > 0, total, 1)


def class_tensor(values: Sequence[float], classes: int, like: Tensor, option: str = "class_weights") -> Tensor:
    """One number a class, (K,), with the type and on the device of `like`.

    Raises:
        ValueError: not one number for each class, one is negative, or none is above 0.
    """
    numbers = tuple(float(v) for v in values)
    if len(numbers) != classes:
        raise ValueError(f"{option} must have one number for each of {classes} categories, not {len(numbers)}")
    if not (all(0 <= number < float("inf") for number in numbers) and any(numbers)):
        raise ValueError(f"{option} must be finite, at least 0, and not all 0, not {list(numbers)}")
    return _cached(numbers, like.dtype, like.device)


@lru_cache(maxsize=64)
def _cached(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # Made anew in every step, the copy to the device would wait for all that is queued there.
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=dtype, device=device)
