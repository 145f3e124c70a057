"""What of an object's outline lies in a window of its image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vision_tasks.data.geometry import clip_polygon
from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Masks, Polygons, Rle, Size

_NEAR = 1e-3
"""Pixels beside a border where a polygon that lies along it is looked for."""


@dataclass(frozen=True)
class Clipped:
    """The part of an object in a window, in the window's pixels.

    Attributes:
        shape: its outline, None if it has none. part: how much of the outline's area that is, 0..1.
        box: (4,) tight corners around it, None without an outline.
    """

    shape: Polygons | Rle | None
    part: float = 1.0
    box: np.ndarray | None = None


def clip_shape(shape: Polygons | Rle | None, window: np.ndarray, size: Size, whole: bool = False) -> Clipped | None:
    """Clip an outline to a window; None if nothing of it is inside.

    Args:
        shape: polygons or run lengths. window: (4,) corners in whole pixels. size: (height, width) of the image.
        whole: the window holds all of the object's box: then polygons are moved as they are.
    """
    if isinstance(shape, dict):
        return _clip_rle(shape, window)
    polygons = [p.astype(np.float64) - window[:2] for p in shape or []]
    if not polygons or not (full := sum(area(p) for p in polygons)):
        return Clipped(None)
    extent = (int(window[3] - window[1]), int(window[2] - window[0]))
    points = np.concatenate(polygons)
    if whole and (points >= 0).all() and (points <= [extent[1], extent[0]]).all():
        return Clipped([p.astype(np.float32) for p in polygons])
    clipped = [(part, p) for p in polygons if area(part := clip_polygon(p, extent)) > 0]
    if not clipped:
        return None
    boxes = np.stack([tight_box(part, p, extent) for part, p in clipped])
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    share = sum(area(part) for part, _ in clipped) / full
    return Clipped([p.astype(np.float32) for p, _ in clipped], share, box)


def area(polygon: np.ndarray) -> float:
    """Area of a polygon (P, 2), P may be below 3."""
    if len(polygon) < 3:
        return 0.0
    x, y = (polygon - polygon[0]).T  # from the first point on, so that closing the ring adds nothing
    return abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2


def tight_box(clipped: np.ndarray, polygon: np.ndarray, size: Size) -> np.ndarray:
    """Corners (4,) around what a clipped polygon encloses.

    Clipping joins the parts of a concave polygon by edges along the border, which may lead by a corner of the window
    that is not in the polygon. So of edges along the border only those count that have the polygon beside them.

    Args:
        clipped: (Q, 2), what `clip_polygon` made of polygon (P, 2) in a window of this (height, width).
    """
    after, limits = np.concatenate([clipped[1:], clipped[:1]]), (0.0, 0.0, float(size[1]), float(size[0]))
    sides = [(i % 2, limit, clipped[:, i % 2] == limit) for i, limit in enumerate(limits)]
    along = np.zeros(len(clipped), bool)  # the edge from each point to the next lies on the border
    for axis, limit, on in sides:
        along |= on & (after[:, axis] == limit)
    doubtful = along.copy()
    doubtful[1:] &= along[:-1]
    doubtful[0] &= along[-1]
    sure = clipped[~doubtful]
    if len(sure):
        box = np.concatenate([sure.min(axis=0), sure.max(axis=0)])
        others = clipped[doubtful]
        if not ((others < box[:2]) | (others > box[2:])).any():
            return box
    points = [sure]
    for axis, limit, on in sides:
        ends = np.unique(clipped[on, 1 - axis])
        if len(ends) < 2:
            continue
        beside = np.empty((len(ends) - 1, 2))
        beside[:, axis], beside[:, 1 - axis] = limit + (_NEAR if limit == 0 else -_NEAR), (ends[:-1] + ends[1:]) / 2
        held = _holds(polygon, beside)
        ends = np.unique(np.concatenate([ends[:-1][held], ends[1:][held]]))
        points.append(np.insert(ends[:, None], axis, limit, axis=1))
    found = np.concatenate(points)
    found = found if len(found) else clipped
    return np.concatenate([found.min(axis=0), found.max(axis=0)])


def _holds(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which points (S, 2) lie in a polygon (P, 2), (S,) bool, by the even-odd rule."""
    (x, y), (after_x, after_y) = polygon.T, np.concatenate([polygon[1:], polygon[:1]]).T
    px, py = points[:, :1], points[:, 1:]
    crossing = (y > py) != (after_y > py)
    at = x + (py - y) / np.where(after_y == y, 1, after_y - y) * (after_x - x)
    inside: np.ndarray = (crossing & (px < at)).sum(axis=1) % 2 == 1
    return inside


def _clip_rle(rle: Rle, window: np.ndarray) -> Clipped | None:
    """Only the window's columns are made, whatever the size of the image."""
    height, width = rle["size"]
    x1, y1, x2, y2 = (int(v) for v in window)
    inside = (min(x1, width), min(y1, height), min(x2, width), min(y2, height))
    if inside != (x1, y1, x2, y2):  # encoded for another image
        return None
    bitmap = mask_ops.render(Masks((height, width), shapes=[rle]), inside)
    there = mask_ops.encode(bitmap.to(torch.bool))
    pixels, full = int(mask_ops.area(there)[0]), int(mask_ops.area([rle])[0])
    if not full:
        return Clipped(None)
    if not pixels:
        return None
    return Clipped(there[0], pixels / full, mask_ops.boxes(there)[0].numpy().astype(np.float64))
