"""Truth of an image of which something was covered: by pasted objects, or by holes that were cut out of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from pycocotools import mask as coco_mask

from vision_tasks.data.canvas import MIN_SIDE, MIN_VISIBLE
from vision_tasks.data.geometry import keep_rows
from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Masks, Polygons, Rle, Target


def covered(target: Target, cover: np.ndarray) -> Target:
    """The truth of what is still seen.

    A mask loses the pixels that are covered, its area as large a part, and its box is fitted to what remains. An object
    without a mask keeps its box, as nobody knows where in it the object is. Objects of which less than a fifth is left
    (`canvas.MIN_VISIBLE`; of a box, if there is no mask) or less than 2 pixels either way are dropped; crowds, which
    are regions to be ignored, stay as long as a pixel of them is seen. The semantic map becomes -1 where it is covered.

    Args:
        target: truth before. cover: (H, W) bool of the same size, True where nothing of it is seen any more.
    """
    if not cover.any():
        return target
    semantic = target.semantic
    if semantic is not None:
        semantic = semantic.masked_fill(torch.from_numpy(cover), -1)
    target = replace(target, semantic=semantic)
    if target.boxes is None or not len(target.boxes):
        return target
    boxes = target.boxes.numpy().copy()
    shapes: list[Polygons | Rle | None] = [None] * len(boxes)
    if target.masks is not None and target.masks.shapes is not None:
        shapes = list(target.masks.shapes)
    crowds = np.zeros(len(boxes), bool) if target.is_crowd is None else target.is_crowd.numpy()
    part, kept = np.ones(len(boxes)), np.ones(len(boxes), bool)  # of each object: how much of its mask is left
    rle = mask_ops.encode(torch.from_numpy(cover)[None])[0]
    for i in np.flatnonzero(_touched(boxes, cover)).tolist():
        shape = shapes[i]
        if shape is None:
            seen = 1 - _share(boxes[i], cover)
        else:
            shapes[i], seen = _rest(shape, target, rle, cover)
            part[i] = seen
            if 0 < seen < 1:
                boxes[i] = mask_ops.boxes([shapes[i]])[0].numpy()  # type: ignore[list-item]
        large = bool((boxes[i, 2:] - boxes[i, :2] >= MIN_SIDE).all())
        kept[i] = seen == 1 or (seen > 0 if crowds[i] else seen >= MIN_VISIBLE and large)
    moved = replace(
        target,
        boxes=torch.from_numpy(boxes),
        masks=None if target.masks is None else Masks(target.size, shapes=shapes),
        area=None if target.area is None else target.area * torch.from_numpy(part).to(target.area.dtype),
    )
    return keep_rows(moved, torch.from_numpy(kept))


def _rest(shape: Polygons | Rle, target: Target, rle: Rle, cover: np.ndarray) -> tuple[Polygons | Rle, float]:
    """What is left of a mask, and which part of it that is; the same and 1 if nothing of it is covered."""
    own = mask_ops.to_rles(Masks(target.size, shapes=[shape]))[0]
    both: Rle = coco_mask.merge([own, rle], intersect=True)
    whole, hidden = mask_ops.area([own, both]).tolist()
    if not hidden:
        return shape, 1.0
    bitmap = mask_ops.decode([own])[0] & ~torch.from_numpy(cover)
    return mask_ops.encode(bitmap[None])[0], (whole - hidden) / whole


def _touched(boxes: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """(N,) bool, whether the box around all that is covered meets each box, which may be a pixel too narrow."""
    rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    low, high = np.array([columns[0], rows[0]]) - 1, np.array([columns[-1], rows[-1]]) + 2
    return np.asarray(((boxes[:, :2] < high) & (boxes[:, 2:] > low)).all(axis=1))


def _share(box: np.ndarray, cover: np.ndarray) -> float:
    """Which part of a box's pixels is covered."""
    (x1, y1), (x2, y2) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
    part = cover[max(y1, 0) : y2, max(x1, 0) : x2]
    return float(part.mean()) if part.size else 0.0
