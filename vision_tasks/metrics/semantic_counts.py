"""Counting pairs of values at the same pixels of two maps: all that IoU, accuracy and panoptic matching need."""

from __future__ import annotations

import torch
from torch import Tensor

_AT_ONCE = {"cpu": 1 << 18}  # pixels; their fused index fits a processor's cache
_ON_DEVICES = 1 << 23  # where every part costs a wait


def pair_counts(first: Tensor, second: Tensor, rows: int, columns: int, lowest: int = 0) -> Tensor:
    """At how many pixels `first` has one value and `second` another.

    Both values become one index, in the narrowest integers that hold it and a cache-sized part of the maps at a time,
    so that no wide copy of a map is made.

    Args:
        first, second: integer maps of one shape, on one device.
        rows: values of `first` lie in lowest..lowest + rows - 1. columns: those of `second` likewise.

    Returns:
        (rows, columns) int64.

    Raises:
        ValueError: the shapes differ, or a value lies outside; `args` are the message, 0 or 1 for which map, the value.
    """
    if first.shape != second.shape:
        raise ValueError(f"maps of {tuple(first.shape)} and {tuple(second.shape)} pixels", 1, tuple(second.shape))
    counts = torch.zeros(rows * columns, dtype=torch.int64, device=first.device)
    fused = torch.int16 if rows * columns <= torch.iinfo(torch.int16).max else torch.int32
    maps = first.reshape(-1), second.reshape(-1)
    at_once = _AT_ONCE.get(first.device.type, _ON_DEVICES)
    for begin in range(0, first.numel(), at_once):
        parts = [values[begin : begin + at_once] for values in maps]
        for which, (part, count) in enumerate(zip(parts, (rows, columns), strict=True)):
            low, high = (int(edge) for edge in torch.stack(torch.aminmax(part)).tolist())
            if low < lowest or high >= lowest + count:
                wrong = low if low < lowest else high
                raise ValueError(f"{wrong} lies outside {lowest}..{lowest + count - 1}", which, wrong)
        index = parts[0].to(fused) - lowest
        index *= columns
        index += parts[1].to(fused)
        index -= lowest
        counts += torch.bincount(index, minlength=rows * columns)
    return counts.view(rows, columns)
