"""Maps painted over images: every region tinted in its colour, with a crisp line where it ends.

A map is painted in bands of rows, each with OpenCV's tables and sums: the temporaries stay in the processor's caches,
and a picture of 8000×6000 takes about as long as reading it from a disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_tasks.structures import Color

Kind = TypeVar("Kind", np.uint8, np.uint16)
Regions = NDArray[np.uint8] | NDArray[np.uint16]
"""(H, W): 0 where nothing is decided, else 1 + the row of a table of colours."""

_BAND = 1 << 20
"""Pixels painted at once."""


def regions_of(ids: NDArray, first: int, count: int, zoom: int = 1) -> Regions:
    """A map as `Regions`, in the smallest type that holds it.

    Args:
        ids: (H, W) integers; `first` and above are decided, what lies below is not.
        count: number of colours there are; greater ids become one region more, that of the unknown.
        zoom: how many times larger the regions are to be.
    """
    wide = ids.astype(np.int16) if ids.dtype.itemsize == 1 else ids
    regions = np.clip(wide, first - 1, first + count)
    regions -= regions.dtype.type(first - 1)
    return enlarged_regions(regions.astype(np.uint8 if count + 2 <= 256 else np.uint16), zoom)


def enlarged_regions(regions: NDArray[Kind], zoom: int) -> NDArray[Kind]:
    """Each pixel as zoom × zoom equal ones."""
    size = (regions.shape[1] * zoom, regions.shape[0] * zoom)
    large = regions if zoom == 1 else cv2.resize(regions, size, interpolation=cv2.INTER_NEAREST)
    return np.ascontiguousarray(large, regions.dtype)


def areas(regions: Regions, count: int) -> NDArray[np.float64]:
    """(count + 1,) pixels of every region, the undecided first; above 16 million they are rounded to float32."""
    found = cv2.calcHist([regions], [0], None, [count + 1], [0, count + 1])
    return np.asarray(found, np.float64).reshape(-1)


def paint_regions(
    canvas: NDArray[np.uint8], regions: Regions, colors: Sequence[Color], opacity: float, line: int
) -> None:
    """Tint the canvas, in place.

    Args:
        canvas: (H, W, 3) RGB. regions: (H, W).
        colors: of regions 1, 2, ...; the last one once more for a region that has none.
        opacity: of the tint, 0..1; lines are opaque.
        line: width in pixels of the line along the inside of each region; 0 for none. Where two regions meet, each
            has its own. Undecided pixels are hatched.
    """
    table = np.zeros((max(256, len(colors) + 1), 3), np.uint8)
    table[1 : len(colors) + 1] = np.asarray(colors, np.uint8).reshape(-1, 3)
    height, width = regions.shape
    rows = max(1, _BAND // max(1, width))
    kernel = np.ones((2 * line + 1,) * 2, np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        part = canvas[top:bottom]
        ids = regions[top:bottom]
        fill = _colored(ids, table)
        blended = np.asarray(cv2.addWeighted(part, 1 - opacity, fill, opacity, 0), np.uint8)
        if line:
            above, below = min(line, top), min(line, height - bottom)
            near = regions[top - above : bottom + below]
            edge = np.not_equal(cv2.dilate(near, kernel), cv2.erode(near, kernel)).view(np.uint8)
            cv2.copyTo(fill, edge[above : above + bottom - top], blended)
        if cv2.minMaxLoc(ids)[0] == 0:
            undecided = (ids == 0).view(np.uint8)
            cv2.copyTo(part, undecided, blended)
            hatch(blended, undecided, line, top)
        part[...] = blended


def hatch(canvas: NDArray[np.uint8], where: NDArray[np.uint8], line: int, top: int = 0) -> None:
    """Thin diagonal lines, light beside dark, so that they show on any ground.

    Args:
        canvas: (H, W, 3), changed in place. where: (H, W) of 0 and 1.
        line: width of a line. top: how far down a larger picture the canvas begins.
    """
    line = max(1, line)
    period = 8 * line
    tile = (np.arange(period)[None] + np.arange(period)[:, None] + top) % period
    height, width = where.shape
    repeats = (-(-height // period), -(-width // period))
    for low, tone in ((0, 255), (line, 0)):
        stripe = np.tile(((tile >= low) & (tile < low + line)).view(np.uint8), repeats)[:height, :width]
        shaded = cv2.addWeighted(canvas, 0.6, np.full_like(canvas, tone), 0.4, 0)
        cv2.copyTo(shaded, where & stripe, canvas)


def _colored(ids: Regions, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) ids -> (h, w, 3) colours."""
    if ids.dtype == np.uint8:
        return np.asarray(cv2.applyColorMap(ids, np.ascontiguousarray(table[:256, None])), np.uint8)
    return np.asarray(table.take(ids, axis=0), np.uint8)
