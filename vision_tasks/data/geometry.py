"""Moving labels: boxes, polygons and bitmaps of one image under a geometric transform, clipped to the new image.

Plain NumPy in continuous pixels and float64; `transforms` decides where the points go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Masks, Polygons, Rle, Size, Target

MovePoints = Callable[[np.ndarray], np.ndarray]
"""(P, 2) x, y on the old image to (P, 2) on the new one."""

MoveBitmap = Callable[[np.ndarray], np.ndarray]
"""(H, W) uint8 or int16 to (h, w) of the same type, nearest pixel, 0 where the old image does not reach."""

# A box is worth keeping if a pixel of it could be seen.
_MIN_SIDE = 1.0

# How far a rectangle's area may be from its enclosing box's for it to count as upright (float32 corners).
_UPRIGHT = 1e-4

Shape = Polygons | Rle | None


def move_target(target: Target, size: Size, points: MovePoints, bitmap: MoveBitmap) -> Target:
    """The truth of an image after a transform under which straight lines stay straight.

    A box goes with its corners and is the upright box around them, clipped. Where that is no longer tight (the object
    was turned or cut) and the object has a mask, the box is fitted to the mask. `area` changes by as much as the
    object's visible area does. Objects of which less than a pixel's width or height is left are dropped.

    Args:
        target: truth before; masks as polygons or run lengths. size: (height, width) after.
        points, bitmap: where points and bitmaps go; only RLE masks and the semantic map use the latter.
    """
    semantic = None if target.semantic is None else _move_semantic(target.semantic, bitmap)
    if target.boxes is None:
        return replace(target, size=size, semantic=semantic)
    n, shapes = len(target.boxes), _shapes(target)
    corners = _corners(target.boxes.numpy().astype(np.float64))
    outlines = [shape if isinstance(shape, list) else [] for shape in shapes]
    moved = points(np.concatenate([corners.reshape(-1, 2), *(p for polygons in outlines for p in polygons)]))
    quads, outlines = moved[: 4 * n].reshape(n, 4, 2), _like(outlines, moved[4 * n :])

    around = np.concatenate([quads.min(axis=1), quads.max(axis=1)], axis=1) if n else np.zeros((0, 4))
    boxes = around.clip(0, [size[1], size[0], size[1], size[0]])
    quad_area = _shoelace(quads)
    turned = quad_area < _box_area(around) * (1 - _UPRIGHT)
    cut = (boxes != around).any(axis=1)
    grown = quad_area / np.maximum(_shoelace(corners), 1e-9)
    factor = grown * _box_area(boxes) / np.maximum(_box_area(around), 1e-9)

    rles = iter(_move_rles([shape for shape in shapes if isinstance(shape, dict)], bitmap))
    for i, shape in enumerate(shapes):
        if isinstance(shape, dict):
            shapes[i], change, tight = next(rles)
        elif shape is not None:
            shapes[i], part, tight = _clip_polygons(outlines[i], size)
            change = grown[i] * part
        else:
            continue
        if turned[i] or cut[i] or tight is None:
            boxes[i] = np.zeros(4) if tight is None else tight
            factor[i] = change
    return _rebuilt(target, size, boxes, shapes, factor, semantic)


def warp_target(target: Target, size: Size, bitmap: MoveBitmap) -> Target:
    """The truth after a transform that bends lines: every object is rasterised, moved, and its box fitted anew.

    An object without a mask is moved as its box. Accuracy is a pixel. Two or three full-size bitmaps exist at a time.
    """
    semantic = None if target.semantic is None else _move_semantic(target.semantic, bitmap)
    if target.boxes is None:
        return replace(target, size=size, semantic=semantic)
    n, given = len(target.boxes), _shapes(target)
    shapes: list[Shape] = [None] * n
    boxes, factor = np.zeros((n, 4)), np.zeros(n)
    corners = _corners(target.boxes.numpy())
    solid: list[Shape] = [[corners[i]] if shape is None else shape for i, shape in enumerate(given)]
    for i, moved in enumerate(_move_rles(mask_ops.to_rles(Masks(target.size, shapes=solid)), bitmap)):
        rle, factor[i], tight = moved
        shapes[i] = None if given[i] is None else rle
        if tight is not None:
            boxes[i] = tight
    return _rebuilt(target, size, boxes, shapes, factor, semantic)


def keep_rows(target: Target, kept: torch.Tensor) -> Target:
    """Only the objects where `kept` (N,) bool is true, or at these indices (int64)."""
    rows: dict[str, Any] = {}
    for name in ("boxes", "labels", "masks", "area", "is_crowd"):
        value = getattr(target, name)
        rows[name] = None if value is None else value[kept]
    return replace(target, **rows)


def clip_polygon(points: np.ndarray, size: Size) -> np.ndarray:
    """The part of a polygon (P, 2) inside an image of (height, width): (Q, 2), Q = 0 if nothing of it is inside.

    Sutherland and Hodgman, "Reentrant polygon clipping" (1974). Parts of a concave polygon stay joined by edges along
    the border, which enclose nothing.
    """
    for axis, sign, border in ((0, 1, 0), (0, -1, size[1]), (1, 1, 0), (1, -1, size[0])):
        depth = sign * (points[:, axis] - border)
        inside = depth >= 0
        if inside.all():
            continue
        if not inside.any():
            return np.zeros((0, 2))
        after = np.roll(points, -1, axis=0)
        crosses = inside != np.roll(inside, -1)
        fraction = depth / np.where(crosses, depth - np.roll(depth, -1), 1)
        crossing = points + fraction[:, None] * (after - points)
        crossing[:, axis] = border
        both = np.stack([points, crossing], axis=1).reshape(-1, 2)
        points = both[np.stack([inside, crosses], axis=1).reshape(-1)]
    return points


def _shapes(target: Target) -> list[Shape]:
    """The objects' masks; None where there is none, or one that encloses nothing: then the box must do."""
    assert target.boxes is not None
    if target.masks is None:
        return [None] * len(target.boxes)
    if target.masks.shapes is None:
        raise ValueError("augmentation moves masks of annotations (polygons, RLE), not a mask head's grid")
    return [shape if _encloses(shape) else None for shape in target.masks.shapes]


def _encloses(shape: Shape) -> bool:
    if isinstance(shape, dict):
        return int(mask_ops.area([shape])[0]) > 0
    return any(float(_shoelace(p[None].astype(np.float64))[0]) > 0 for p in shape or [])


def _rebuilt(
    target: Target,
    size: Size,
    boxes: np.ndarray,
    shapes: list[Shape],
    factor: np.ndarray,
    semantic: torch.Tensor | None,
) -> Target:
    """The target with its objects moved, without those too small to see. `factor` (N,) scales the area."""
    moved = replace(
        target,
        size=size,
        boxes=torch.from_numpy(boxes.astype(np.float32)),
        masks=None if target.masks is None else Masks(size, shapes=shapes),
        area=None if target.area is None else target.area * torch.from_numpy(factor).to(target.area.dtype),
        semantic=semantic,
    )
    kept = (boxes[:, 2:] - boxes[:, :2] >= _MIN_SIDE).all(axis=1)
    return moved if kept.all() else keep_rows(moved, torch.from_numpy(kept))


def _move_rles(rles: list[Rle], bitmap: MoveBitmap) -> list[tuple[Rle, float, np.ndarray | None]]:
    """Each moved mask, by how much its area changed, and its tight box (None if nothing is left).

    Eight masks are moved as the bits of one bitmap, as whole pixels are all that is moved. Bitmaps of masks lie in
    memory column by column, as pycocotools has them: to turn them costs more than to move them.
    """
    out: list[tuple[Rle, float, np.ndarray | None]] = []
    for start in range(0, len(rles), 8):
        some = rles[start : start + 8]
        packed = np.zeros(some[0]["size"], dtype=np.uint8, order="F")
        for bit, rle in enumerate(some):
            packed |= coco_mask.decode(rle) << bit
        moved = np.asfortranarray(bitmap(np.ascontiguousarray(packed)))
        after: list[Rle] = [coco_mask.encode(np.asfortranarray((moved >> bit) & 1)) for bit in range(len(some))]
        pixels, before = mask_ops.area(after).tolist(), mask_ops.area(some).tolist()
        boxes = mask_ops.boxes(after).numpy()
        out += [(after[i], pixels[i] / max(before[i], 1), boxes[i] if pixels[i] else None) for i in range(len(some))]
    return out


def _clip_polygons(polygons: Polygons, size: Size) -> tuple[Polygons, float, np.ndarray | None]:
    """The polygons inside the image as float32, which part of their area that is, and their tight box or None."""
    clipped = [part for p in polygons if len(part := clip_polygon(p, size)) >= 3]
    area = sum(float(_shoelace(p[None])[0]) for p in clipped)
    if area <= 0:
        return [], 0.0, None
    parts = [p.astype(np.float32) for p in clipped]
    return parts, area / sum(float(_shoelace(p[None])[0]) for p in polygons), _tight(parts, size)


def _tight(polygons: Polygons, size: Size) -> np.ndarray:
    """The box (4,) around clipped polygons, but not around edges along the border that enclose nothing."""
    points = np.concatenate(polygons).astype(np.float64)
    tight = np.concatenate([points.min(axis=0), points.max(axis=0)])
    if (points == 0).sum() + (points == [size[1], size[0]]).sum() > 2:  # else one cut, which has no such edge
        seen = mask_ops.boxes([mask_ops.from_polygons(polygons, size)])[0].numpy()
        loose = np.abs(seen - tight) > 1
        if seen.any():
            tight[loose] = seen[loose]
    return tight


def _move_semantic(semantic: torch.Tensor, bitmap: MoveBitmap) -> torch.Tensor:
    """(H, W) int16 labels or (L, H, W) int8; -1 where the old image does not reach."""
    # Shifted by one, so that the 0 that fills what was outside means "ignore".
    shifted = (semantic + 1).numpy()
    if semantic.ndim == 3:
        layers = np.stack([bitmap(layer) for layer in shifted.view(np.uint8)])
        return torch.from_numpy(layers.view(np.int8)) - 1
    return torch.from_numpy(bitmap(shifted)) - 1


def _corners(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) boxes to (N, 4, 2) corner points, in order around the box."""
    return boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]


def _like(outlines: list[Polygons], points: np.ndarray) -> list[Polygons]:
    """Cut a row of points (P, 2) into polygons of the same lengths as these."""
    ends = np.cumsum([len(p) for polygons in outlines for p in polygons], dtype=np.int64)
    parts = iter(np.split(points, ends[:-1])) if len(ends) else iter(())
    return [[next(parts) for _ in polygons] for polygons in outlines]


def _shoelace(polygons: np.ndarray) -> np.ndarray:
    """Areas (N,) of N polygons of P points (N, P, 2)."""
    if polygons.shape[-2] == 0:
        return np.zeros(polygons.shape[:-2])
    x, y = polygons[..., 0], polygons[..., 1]
    # Not by np.roll, which costs more than all the rest.
    between = (x[..., :-1] * y[..., 1:] - x[..., 1:] * y[..., :-1]).sum(axis=-1)
    areas: np.ndarray = np.abs(between + x[..., -1] * y[..., 0] - x[..., 0] * y[..., -1]) / 2
    return areas


def _box_area(boxes: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas
