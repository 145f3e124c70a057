"""Extents and areas of many outlines at once, from the bytes that `formats.shapes` wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from pycocotools import mask as coco_mask

from vision_tasks.data.formats import shapes

_SLICE = 1 << 15


def extents(blob: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """x, y, width, height (n, 4) float64 around outlines; all zero for a run-length mask without a pixel.

    Args:
        blob: (B,) uint8 of entries. starts: (n,) int64, where each begins; none may be -1.
    """
    return _measured(blob, starts, 4, _polygon_extents, coco_mask.toBbox)


def areas(blob: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Areas (n,) float64 in square pixels: polygons' by Gauss's formula, summed; run lengths' number of pixels.

    Args:
        blob: (B,) uint8 of entries. starts: (n,) int64, where each begins; none may be -1.
    """
    return _measured(blob, starts, 1, _polygon_areas, coco_mask.area)[:, 0]


def flat_polygons(blob: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Polygons of n outlines in a row: points (P, 2) float64, points per polygon (Q,), polygons per outline (n,)."""
    words = blob.view("<i4")
    at = starts // 4
    polygons = words[at].astype(np.int64)
    counts = words[_ranges(at + 1, polygons)].astype(np.int64)
    points = np.add.reduceat(counts, _begins(polygons)) if len(counts) else counts
    xy = blob.view("<f4")[_ranges(at + 1 + polygons, 2 * points)].astype(np.float64)
    return xy.reshape(-1, 2), counts, polygons


def _measured(
    blob: np.ndarray,
    starts: np.ndarray,
    columns: int,
    of_polygons: Callable[[np.ndarray, np.ndarray], np.ndarray],
    of_runs: Callable[[list[dict[str, object]]], np.ndarray],
) -> np.ndarray:
    out = np.zeros((len(starts), columns))
    for part in _slices(len(starts)):
        own = starts[part]
        is_polygon = blob.view("<i4")[own // 4] > 0
        if is_polygon.any():
            out[part][is_polygon] = of_polygons(blob, own[is_polygon])
        if not is_polygon.all():
            runs = [shapes.decode(blob, int(start)) for start in own[~is_polygon]]
            out[part][~is_polygon] = np.asarray(of_runs(runs), np.float64).reshape(-1, columns)  # type: ignore[arg-type]
    return out


def _polygon_extents(blob: np.ndarray, starts: np.ndarray) -> np.ndarray:
    xy, counts, polygons = flat_polygons(blob, starts)
    begins = _begins(np.add.reduceat(counts, _begins(polygons)))
    low, high = np.minimum.reduceat(xy, begins), np.maximum.reduceat(xy, begins)
    return np.concatenate([low, high - low], 1)


def _polygon_areas(blob: np.ndarray, starts: np.ndarray) -> np.ndarray:
    xy, counts, polygons = flat_polygons(blob, starts)
    begins = _begins(counts)
    after = np.arange(1, len(xy) + 1)
    after[begins + counts - 1] = begins  # the last point is followed by the first
    x, y = (xy - np.repeat(xy[begins], counts, 0)).T  # near 0, so that products of large coordinates lose nothing
    twice = np.abs(np.add.reduceat(x * y[after] - x[after] * y, begins))
    return (np.add.reduceat(twice, _begins(polygons)) / 2)[:, None]


def _begins(counts: np.ndarray) -> np.ndarray:
    begins: np.ndarray = np.cumsum(counts) - counts
    return begins


def _ranges(begins: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """begin, begin + 1, ... of each, `counts` long, in a row."""
    return np.repeat(begins - _begins(counts), counts) + np.arange(int(counts.sum()))


def _slices(length: int) -> Iterator[slice]:
    for begin in range(0, length, _SLICE):
        yield slice(begin, begin + _SLICE)
