"""Anchors: the boxes a dense head starts from, a few at every cell of every pyramid level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vision_tasks.structures import Size


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """Anchors around the origin for one level, (len(aspect_ratios) * len(sizes), 4) float32, ratios slowest.

    An aspect ratio is height / width; the area is size². Corners are rounded to whole pixels (half to even),
    as Faster R-CNN's first release and torchvision do.
    """
    size = torch.tensor(sizes, dtype=torch.float32)
    root = torch.tensor(aspect_ratios, dtype=torch.float32).sqrt()
    widths = ((1 / root)[:, None] * size).flatten()
    heights = (root[:, None] * size).flatten()
    return (torch.stack((-widths, -heights, widths, heights), dim=1) / 2).round()


def grid_anchors(cells: Sequence[Tensor], map_sizes: Sequence[Size], image_size: Size) -> list[Tensor]:
    """Anchors of every level, cell by cell in row-major order.

    Args:
        cells: per level, (A, 4) anchors around the origin (`cell_anchors`); they say the device.
        map_sizes: per level, (height, width) of the feature map.
        image_size: (height, width) of the padded image. The stride is this // the map's size, as in torchvision:
            P6 of an 800×1088 image has a stride of 61, not 64.

    Returns:
        Per level, (h * w * A, 4) float32 corners in pixels of the padded image.
    """
    anchors = []
    for cell, (height, width) in zip(cells, map_sizes, strict=True):
        x = torch.arange(width, device=cell.device, dtype=torch.float32) * (image_size[1] // width)
        y = torch.arange(height, device=cell.device, dtype=torch.float32) * (image_size[0] // height)
        at_y, at_x = torch.meshgrid(y, x, indexing="ij")
        shift = torch.stack((at_x, at_y, at_x, at_y), dim=-1)
        anchors.append((shift[:, :, None] + cell).reshape(-1, 4))
    return anchors
