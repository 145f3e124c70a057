"""Masks: run-length encoding, polygons and mask-head grids to bitmaps, areas and boxes.

Polygons are rasterised, and bitmaps encoded, by pycocotools' C code, so every pixel equals COCO's own. Polygons are in
continuous pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional as F

from vision_tasks.errors import VisionTasksError
from vision_tasks.ops import run_lengths
from vision_tasks.structures import Masks, Polygons, Rle, Size

Window = tuple[int, int, int, int]
"""(x1, y1, x2, y2) in whole pixels, x2 and y2 exclusive, inside the image."""

# Pixels of a box that are never too many, however small the image.
_ALWAYS_MADE = 1 << 20


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

    A polygon of fewer than three points covers nothing. A float32 coordinate that is a rounded tenth counts as that
    tenth: COCO's rounding has its ties there, and files have many of them.
    """
    return _rasterised([_fifths(p) for p in polygons if len(p) >= 3], size)


def _fifths(points: np.ndarray) -> np.ndarray:
    """Points (P, 2) int64 on the grid of fifths of a pixel that pycocotools rounds to before anything else."""
    exact = points.astype(np.float64)
    if points.dtype == np.float32:
        tenths = np.round(exact, 1)
        exact = np.where(tenths.astype(np.float32) == points, tenths, exact)
    return np.trunc(5 * exact + 0.5).astype(np.int64)


def _rasterised(fifths: Sequence[np.ndarray], size: Size) -> Rle:
    """Union of polygons on the grid of fifths of a pixel."""
    if not fifths:
        return empty(size)
    # What pycocotools rounds to these numbers again. It cuts off towards zero: negative ones must lie below theirs.
    flat = [(np.where(p < 0, p - 0.75, p) / 5).reshape(-1) for p in fifths]
    merged: Rle = coco_mask.merge(coco_mask.frPyObjects(flat, *size))
    return merged


def empty(size: Size) -> Rle:
    """The mask without a pixel."""
    counts = run_lengths.compress([np.array([size[0] * size[1]])])[0]
    return {"size": list(size), "counts": counts}


def to_rles(masks: Masks, threshold: float = 0.5) -> list[Rle]:
    """Every mask run-length encoded at full size; an object without a mask (None) becomes an empty one.

    Of a grid only its own box's pixels are made. The bytes are those that torchvision's `paste_masks_in_image` on a
    full canvas, and pycocotools' encoding of that, would give.

    Args:
        masks: N masks of any form. threshold: a grid's pixels above this probability belong to the object.
    """
    if masks.grid is None:
        assert masks.shapes is not None
        return [_shape_to_rle(shape, masks.size) for shape in masks.shapes]
    assert masks.boxes is not None
    height, width = masks.size
    runs = [np.array([height * width])] * len(masks)
    for i, (x1, y1, _, _), pasted in _pasted(masks.grid.cpu(), masks.boxes.cpu(), masks.size):
        runs[i] = run_lengths.of_window((pasted > threshold).numpy(), (x1, y1), masks.size)
    return [{"size": [height, width], "counts": counts} for counts in run_lengths.compress(runs)]


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
            runs = run_lengths.decompress(shape["counts"])
            bitmap.copy_(torch.from_numpy(run_lengths.cut(runs, masks.size, window)))
        else:
            _render_polygons(shape, window, bitmap)
    return bitmaps


def paste_grid(
    grid: Tensor, boxes: Tensor, size: Size, *, threshold: float | None = 0.5, window: Window | None = None
) -> Tensor:
    """Mask-head output laid over its boxes: torchvision's `paste_masks_in_image` (padding 1), to the bit.

    Args:
        grid: (N, M, M) probabilities. boxes: (N, 4) corners in pixels. size: (height, width) of the image.
        threshold: None returns probabilities. window: part of the image wanted; default the whole of it.

    Returns:
        (N, h, w) bool (probability above threshold), or float32 if `threshold` is None.
    """
    left, top, right, bottom = window or (0, 0, size[1], size[0])
    shape = (len(grid), bottom - top, right - left)
    out = torch.zeros(shape, dtype=torch.float32 if threshold is None else torch.bool, device=grid.device)
    for i, (x1, y1, x2, y2), pasted in _pasted(grid, boxes, size, window):
        out[i, y1 - top : y2 - top, x1 - left : x2 - left] = pasted if threshold is None else pasted > threshold
    return out


def _pasted(
    grid: Tensor, boxes: Tensor, size: Size, window: Window | None = None
) -> Iterator[tuple[int, Window, Tensor]]:
    """Of every grid that reaches into the window: its number, the part of the window it covers, its pixels there.

    torchvision's convention: the grid is padded by one zero cell, the box grown to match and cut to whole pixels, its
    last pixel included. One box exists at a time, so memory is that of the largest.

    Raises:
        VisionTasksError: a box several times as large as the image, whose pixels would take memory for nothing.
    """
    window = window or (0, 0, size[1], size[0])
    padded = F.pad(grid.to(torch.float32), (1, 1, 1, 1))
    half = (boxes[:, 2:] - boxes[:, :2]).to(torch.float32) * 0.5 * (padded.shape[-1] / max(1, grid.shape[-1]))
    center = (boxes[:, 2:] + boxes[:, :2]).to(torch.float32) * 0.5
    whole = torch.cat(((center - half).to(torch.int64), (center + half).to(torch.int64)), dim=1).tolist()
    for i, (left, top, right, bottom) in enumerate(whole):
        w, h = max(right - left + 1, 1), max(bottom - top + 1, 1)
        x1, y1 = max(left, window[0]), max(top, window[1])
        x2, y2 = min(left + w, window[2]), min(top + h, window[3])
        if x1 >= x2 or y1 >= y2:
            continue
        if w * h > 4 * size[0] * size[1] + _ALWAYS_MADE:
            raise VisionTasksError(
                f"The box of mask {i} covers {w}×{h} pixels, but its image has {size[1]}×{size[0]}; clip boxes first."
            )
        pixels = F.interpolate(padded[i][None, None], size=(h, w), mode="bilinear", align_corners=False)[0, 0]
        yield i, (x1, y1, x2, y2), pixels[y1 - top : y2 - top, x1 - left : x2 - left]


def _shape_to_rle(shape: Polygons | Rle | None, size: Size) -> Rle:
    if shape is None:
        return empty(size)
    return shape if isinstance(shape, dict) else from_polygons(shape, size)


def _render_polygons(polygons: Polygons, window: Window, out: Tensor) -> None:
    """Rasterise polygons into `out`, the (h, w) bitmap of `window`."""
    fifths = [_fifths(p) for p in polygons if len(p) >= 3]
    if not fifths:
        return
    x1, y1, x2, y2 = window
    # COCO's rasterisation of an outline that begins left of or above the frame is not that of the whole image cut: the
    # frame begins where the outline does, but not outside the image.
    low = np.concatenate(fifths).min(axis=0) // 5
    left, top = (min(edge, max(0, int(begin))) for edge, begin in zip((x1, y1), low, strict=True))
    frame = decode([_rasterised([p - (5 * left, 5 * top) for p in fifths], (y2 - top, x2 - left))])[0]
    out.copy_(frame[y1 - top :, x1 - left :])
