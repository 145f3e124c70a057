"""Where tiles lie in an image in which objects are looked for, and which boxes their edges cut off."""

from __future__ import annotations

import torch
from torch import Tensor

from vision_tasks.inference.looks.sliding import Tiling
from vision_tasks.structures import Size

_EDGE = 0.03
"""Of a tile's side: a box that comes so near to an edge has been cut off by it. Networks are not exact to the pixel."""


def windows(size: Size, tiling: Tiling | None) -> Tensor:
    """Tiles of an image as SAHI lays them: from the top left, the last of a row or column moved back to the edge.

    Args:
        size: (height, width) of the image. tiling: in the same pixels; None is one window.

    Returns:
        (T, 4) int64 corners, row by row; all of one size.
    """
    tile = size if tiling is None else tiling.tile
    overlap = 0 if tiling is None else tiling.overlap
    sides = [min(side, length) for side, length in zip(tile, size, strict=True)]
    tops, lefts = (_starts(length, side, overlap) for length, side in zip(size, sides, strict=True))
    top, left = torch.meshgrid(torch.tensor(tops), torch.tensor(lefts), indexing="ij")
    top, left = top.flatten(), left.flatten()
    return torch.stack((left, top, left + sides[1], top + sides[0]), dim=1)


def cut_off(boxes: Tensor, window: Tensor, size: Size) -> Tensor:
    """Whether boxes end at an edge of their window that is not the image's, (N,) bool.

    Args:
        boxes: (N, 4) in the pixels of the image. window: (4,). size: (height, width) of the image.
    """
    x1, y1, x2, y2 = window.tolist()
    near = _EDGE * (x2 - x1), _EDGE * (y2 - y1)
    cut = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    if x1 > 0:
        cut |= boxes[:, 0] < x1 + near[0]
    if y1 > 0:
        cut |= boxes[:, 1] < y1 + near[1]
    if x2 < size[1]:
        cut |= boxes[:, 2] > x2 - near[0]
    if y2 < size[0]:
        cut |= boxes[:, 3] > y2 - near[1]
    return cut


def _starts(length: int, side: int, overlap: int) -> list[int]:
    last, step = length - side, side - overlap
    return [*range(0, last, step), last]
