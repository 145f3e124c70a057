"""Anchors: the boxes a dense head starts from, a few at every cell of every pyramid level."""

from __future__ import annotations

import math
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


def default_shapes(scales: Sequence[float], aspect_ratios: Sequence[Sequence[float]]) -> list[Tensor]:
    """Widths and heights of SSD's default boxes (Liu et al. 2016, section 2.2), relative to the image.

    Args:
        scales: relative side of the boxes of each map, finest first, and one more for the square in between on the
            coarsest map. aspect_ratios: per map, those over 1; their inverses and the two squares come by themselves.

    Returns:
        Per map, (2 + 2 * ratios, 2) float32 (width, height): the square, the square of the geometric mean with the
        next scale, then each ratio wide and high. At most 1.
    """
    if len(scales) != len(aspect_ratios) + 1:
        raise ValueError(f"{len(aspect_ratios)} maps need {len(aspect_ratios) + 1} scales, not {len(scales)}")
    shapes = []
    for scale, following, ratios in zip(scales, scales[1:], aspect_ratios, strict=False):
        between = math.sqrt(scale * following)
        pairs = [(scale, scale), (between, between)]
        for ratio in ratios:
            long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            pairs += [(long, short), (short, long)]
        shapes.append(torch.tensor(pairs, dtype=torch.float32).clamp(max=1))
    return shapes


def default_boxes(
    shapes: Sequence[Tensor], map_sizes: Sequence[Size], image_size: Size, strides: Sequence[int] | None = None
) -> list[Tensor]:
    """SSD's default boxes of every map, cell by cell in row-major order; they may reach over the image's edge.

    Args:
        shapes: per map, (A, 2) relative (width, height) (`default_shapes`); they say the device.
        map_sizes: per map, (height, width). image_size: (height, width) of the network's input.
        strides: pixels from cell to cell on each map; None divides the image evenly. The two differ where a map
            does not divide the image: SSD300's fourth has 5 cells, 64 pixels apart.

    Returns:
        Per map, (h * w * A, 4) float32 corners in pixels.
    """
    boxes = []
    for i, (shape, (height, width)) in enumerate(zip(shapes, map_sizes, strict=True)):
        across, down = (width, height) if strides is None else (image_size[1] / strides[i], image_size[0] / strides[i])
        x = (torch.arange(width, device=shape.device, dtype=torch.float32) + 0.5) / across
        y = (torch.arange(height, device=shape.device, dtype=torch.float32) + 0.5) / down
        at_x, at_y, wide, high = x[None, :, None], y[:, None, None], 0.5 * shape[:, 0], 0.5 * shape[:, 1]
        sides = (
            (at_x - wide) * image_size[1], (at_y - high) * image_size[0],
            (at_x + wide) * image_size[1], (at_y + high) * image_size[0],
        )  # fmt: skip
        boxes.append(torch.stack(torch.broadcast_tensors(*sides), dim=-1).reshape(-1, 4))
    return boxes
