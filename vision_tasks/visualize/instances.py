"""Masks of objects painted over images: each blended within its own box only, with an outline."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Color, Masks
from vision_tasks.visualize.text import Box

_TINT = 0.35
"""Share of the colour within a mask: the object must be seen through it, as must the next one behind."""


def paint_mask(canvas: NDArray[np.uint8], mask: Masks, box: Box, color: Color, width: int, zoom: int = 1) -> None:
    """Tint the pixels of one mask and draw its outline inside it, in place.

    Args:
        canvas: (zoom·H, zoom·W, 3) RGB. mask: of one object, on the host.
        box: whole pixels of the (H, W) image that the object's box touches; what lies farther out is not drawn.
        width: of lines, in pixels of the canvas.
    """
    x1, y1, x2, y2 = box
    height, across = mask.size
    # A mask head's pixels may reach one beyond its box.
    window = (max(x1 - 1, 0), max(y1 - 1, 0), min(x2 + 1, across), min(y2 + 1, height))
    inside = mask_within(mask, window)
    if zoom > 1:
        inside = np.asarray(cv2.resize(inside, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST), np.uint8)
    left, top, right, bottom = (edge * zoom for edge in window)
    part = canvas[top:bottom, left:right]
    # OpenCV's own filling, sums and masked copies: ten times as fast as NumPy's arithmetic with masks.
    fill = np.empty(part.shape, np.uint8)
    cv2.rectangle(fill, (0, 0), (right - left, bottom - top), color, cv2.FILLED)
    cv2.copyTo(cv2.addWeighted(part, 1 - _TINT, fill, _TINT, 0), inside, part)
    kernel = np.ones((2 * ((width + 1) // 2) + 1,) * 2, np.uint8)
    core = cv2.erode(inside, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    cv2.copyTo(fill, cv2.subtract(inside, core), part)


def mask_within(mask: Masks, window: Box) -> NDArray[np.uint8]:
    """(h, w) of 0 and 1: one mask within a window of its image.

    A mask head's grid is resized by OpenCV, several times as fast as by torch; where a probability is 0.5 up to
    rounding a pixel may differ from `ops.masks.render`.
    """
    x1, y1, x2, y2 = window
    placed = None if mask.grid is None else _pasted(mask)
    if placed is None:
        return np.asarray(mask_ops.render(mask, window)[0].numpy().view(np.uint8))
    (left, top), pixels = placed
    out = np.zeros((y2 - y1, x2 - x1), np.uint8)
    a, b = max(left, x1), max(top, y1)
    c, d = min(left + pixels.shape[1], x2), min(top + pixels.shape[0], y2)
    if a < c and b < d:
        out[b - y1 : d - y1, a - x1 : c - x1] = pixels[b - top : d - top, a - left : c - left] > 0.5
    return out


def _pasted(mask: Masks) -> tuple[tuple[int, int], NDArray[np.float32]] | None:
    """Where a grid's upper left pixel lies, (x, y), and its pixels; None if its box is too large to be made whole.

    torchvision's convention, as in `ops.masks.paste_grid`: one cell of zeros around the grid, the box grown to match.
    """
    assert mask.grid is not None
    assert mask.boxes is not None
    grid = mask.grid[0].detach().float().numpy()
    box = mask.boxes[0].detach().float().numpy()
    cells = np.asarray(grid.shape[::-1], np.float32)
    half = (box[2:] - box[:2]) * np.float32(0.5) * ((cells + 2) / np.maximum(1, cells))
    center = (box[2:] + box[:2]) * np.float32(0.5)
    left, top = np.trunc(center - half).astype(np.int64).tolist()
    right, bottom = np.trunc(center + half).astype(np.int64).tolist()
    width, height = max(right - left + 1, 1), max(bottom - top + 1, 1)
    if width * height > 4 * mask.size[0] * mask.size[1]:
        return None
    padded = cv2.copyMakeBorder(grid, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return (left, top), np.asarray(cv2.resize(padded, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
