"""Masks: run-length encoding, polygons and mask-head grids to bitmaps, areas and boxes.

Run-length work is done by pycocotools' C code, so every pixel equals COCO's own. Polygons are in continuous pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from vision_tasks.structures import Masks, Polygons, Rle, Size

Window = tuple[int, int, int, int]
"""(x1, y1, x2, y2) in whole pixels, x2 and y2 exclusive, inside the image."""

# Pixels that `paste_grid` works on at once: 16 Mi float32 are 64 MiB.
_PIXELS_PER_CHUNK = 1 << 24


def encode(bitmaps: Tensor) -> list[Rle]:
    """Run-length encode (N, H, W) bool bitmaps; N may be zero."""
    if len(bitmaps) == 0:
        return []
    # COCO runs go down the columns: pycocotools wants (H, W, N) in Fortran order, which is (N, W, H) in C order.
    columns = np.ascontiguousarray(bitmaps.detach().to(torch.uint8).cpu().numpy().transpose(0, 2, 1))
    rles: list[Rle] = coco_mask.encode(columns.transpose(2, 1, 0))
    return rles


def decode(rles: Sequence[Rle], size: Size | None = None) -> Tensor:
    """Bitmaps (N, H, W) bool of run-length encoded masks of one size; `size` is needed for N = 0 only."""
    if len(rles) == 0:
        if size is None:
            raise ValueError("decode: give size=(height, width) for an empty list of masks")
        return torch.zeros((0, *size), dtype=torch.bool)
    bitmaps = np.ascontiguousarray(coco_mask.decode(list(rles)).transpose(2, 0, 1))
    return torch.from_numpy(bitmaps.view(np.bool_))


def from_polygons(polygons: Polygons, size: Size) -> Rle:
    """Union of polygons, each (P, 2) x, y in continuous pixels, as COCO rasterises it.

    A polygon of fewer than three points covers nothing.
    """
    flat = [np.asarray(p, dtype=np.float64).reshape(-1) for p in polygons if len(p) >= 3]
    if not flat:
        return empty(size)
    merged: Rle = coco_mask.merge(coco_mask.frPyObjects(flat, *size))
    return merged


def empty(size: Size) -> Rle:
    """The mask without a pixel."""
    rle: Rle = encode(torch.zeros((1, *size), dtype=torch.bool))[0]
    return rle


def to_rles(masks: Masks, threshold: float = 0.5) -> list[Rle]:
    """Every mask run-length encoded at full size; an object without a mask (None) becomes an empty one.

    Args:
        masks: N masks of any form. threshold: a grid's pixels above this probability belong to the object.
    """
    if masks.shapes is None:
        assert masks.grid is not None
        assert masks.boxes is not None
        height, width = masks.size
        step = max(1, _PIXELS_PER_CHUNK // max(1, height * width))
        return [
            rle
            for grid, boxes in zip(masks.grid.split(step), masks.boxes.split(step), strict=True)
            for rle in encode(paste_grid(grid, boxes, masks.size, threshold=threshold))
        ]
    return [_shape_to_rle(shape, masks.size) for shape in masks.shapes]


# pycocotools 2.0.11 keeps the number of masks in a byte when numpy 2 is installed, and raises OverflowError.
_MASKS_PER_AREA_CALL = 255


def area(rles: Sequence[Rle]) -> Tensor:
    """Pixels per mask, (N,) int64."""
    out = np.zeros(len(rles), dtype=np.int64)
    for i in range(0, len(rles), _MASKS_PER_AREA_CALL):
        part = slice(i, i + _MASKS_PER_AREA_CALL)
        out[part] = coco_mask.area(list(rles[part]))
    return torch.from_numpy(out)


def boxes(rles: Sequence[Rle]) -> Tensor:
    """Tight boxes, (N, 4) float32 corners in continuous pixels; zeros for a mask without a pixel."""
    if len(rles) == 0:
        return torch.zeros((0, 4))
    xywh = torch.from_numpy(coco_mask.toBbox(list(rles))).to(torch.float32)
    xywh[:, 2:] += xywh[:, :2]
    return xywh


def render(masks: Masks, window: Window | None = None, threshold: float = 0.5) -> Tensor:
    """Bitmaps of N masks of any form, within a window of their image.

    Every pixel equals rendering at full size and cutting the window out, but polygons and grids cost only the window.

    Args:
        masks: N masks. window: the part wanted; default the whole image.
        threshold: a grid's pixels above this probability belong to the object.

    Returns:
        (N, h, w) bool, h and w of the window; on the grid's device, or on the CPU for polygons and RLE.

    Raises:
        ValueError: if the window leaves the image.
    """
    height, width = masks.size
    x1, y1, x2, y2 = window = window or (0, 0, width, height)
    if not (0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height):
        raise ValueError(f"render: window {window} does not lie in an image of {width}×{height} pixels")
    if masks.grid is not None:
        assert masks.boxes is not None
        return paste_grid(masks.grid, masks.boxes, masks.size, threshold=threshold, window=window)
    assert masks.shapes is not None
    bitmaps = torch.zeros((len(masks), y2 - y1, x2 - x1), dtype=torch.bool)
    if bitmaps.numel() == 0:
        return bitmaps
    for bitmap, shape in zip(bitmaps, masks.shapes, strict=True):
        if shape is None:
            continue
        if isinstance(shape, dict):
            bitmap.copy_(decode([shape])[0, y1:y2, x1:x2])
        else:
            _render_polygons(shape, window, bitmap)
    return bitmaps


def paste_grid(
    grid: Tensor, boxes: Tensor, size: Size, *, threshold: float | None = 0.5, window: Window | None = None
) -> Tensor:
    """Mask-head output laid over its boxes: the numbers of torchvision's `paste_masks_in_image` (padding 1).

    The grid is padded by one zero cell, the box grown to match and cut to whole pixels, its last pixel included.
    Bilinear resizing is separable, so two batched matrix products resize all masks, in chunks of bounded memory.

    Args:
        grid: (N, M, M) probabilities. boxes: (N, 4) corners in pixels. size: (height, width) of the image.
        threshold: None returns probabilities. window: part of the image wanted; default the whole of it.

    Returns:
        (N, h, w) bool (probability above threshold), or float32 if `threshold` is None.
    """
    x1, y1, x2, y2 = window or (0, 0, size[1], size[0])
    out = torch.zeros(
        (len(grid), y2 - y1, x2 - x1), dtype=torch.float32 if threshold is None else torch.bool, device=grid.device
    )
    if out.numel() == 0:
        return out
    padded = torch.nn.functional.pad(grid.to(torch.float32), (1, 1, 1, 1))
    cells = padded.shape[-1]
    half = (boxes[:, 2:] - boxes[:, :2]).to(torch.float32) * 0.5 * (cells / grid.shape[-1])
    center = (boxes[:, 2:] + boxes[:, :2]).to(torch.float32) * 0.5
    start, last = (center - half).to(torch.int64), (center + half).to(torch.int64)
    step = max(1, _PIXELS_PER_CHUNK // (out.shape[1] * out.shape[2]))
    for i in range(0, len(grid), step):
        part = slice(i, i + step)
        across = _resize_weights(start[part, 0], last[part, 0], x1, x2, cells)
        down = _resize_weights(start[part, 1], last[part, 1], y1, y2, cells)
        pasted = down @ (padded[part] @ across.transpose(1, 2))
        out[part] = pasted if threshold is None else pasted > threshold
    return out


def _resize_weights(start: Tensor, last: Tensor, first_pixel: int, end_pixel: int, cells: int) -> Tensor:
    """(N, pixels, cells): how much each cell counts at each pixel when cells stretch over start..last, both included.

    Bilinear with `align_corners=False`; pixels outside have weight zero.
    """
    pixel = torch.arange(first_pixel, end_pixel, device=start.device)
    offset = pixel[None] - start[:, None]
    length = (last - start + 1).clamp(min=1)[:, None]
    source = ((offset + 0.5) * (cells / length.to(torch.float32)) - 0.5).clamp(min=0)
    low = source.floor().clamp(max=cells - 1)
    fraction = source - low
    cell = torch.arange(cells, device=start.device)
    high = (low + 1).clamp(max=cells - 1)
    weights = (cell == low[..., None]) * (1 - fraction)[..., None] + (cell == high[..., None]) * fraction[..., None]
    return weights * ((offset >= 0) & (offset < length))[..., None]


def _shape_to_rle(shape: Polygons | Rle | None, size: Size) -> Rle:
    if shape is None:
        return empty(size)
    return shape if isinstance(shape, dict) else from_polygons(shape, size)


def _render_polygons(polygons: Polygons, window: Window, out: Tensor) -> None:
    """Rasterise polygons into `out`, the (h, w) bitmap of `window`."""
    points = np.concatenate([p for p in polygons if len(p) >= 3] or [np.zeros((0, 2), dtype=np.float32)])
    if len(points) == 0:
        return
    x1, y1, x2, y2 = window
    # pycocotools rounds negative coordinates differently, so none may become negative that was not: where the outline
    # begins before the window, so does the frame.
    left, top = (min(edge, max(0, int(np.floor(low)))) for edge, low in zip((x1, y1), points.min(axis=0), strict=True))
    moved = [np.asarray(p, dtype=np.float64) - (left, top) for p in polygons]
    frame = decode([from_polygons(moved, (y2 - top, x2 - left))])[0]
    out.copy_(frame[y1 - top :, x1 - left :])
