"""Findings of the doctor drawn on their images: boxes as written, boxes as a patch mends them, outlines."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from vision_tasks.data.doctor.findings import Example
from vision_tasks.data.images import ImageSizeError, displayed, read_image
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Color, Size
from vision_tasks.visualize.drawing import Picture, to_rgb8

# Of Okabe and Ito's palette, so that red-green blind people can tell them apart, too.
WRITTEN: Color = (213, 60, 0)
MENDED: Color = (0, 158, 115)
OUTLINE: Color = (240, 228, 66)
OTHERS: Color = (150, 150, 150)
_AROUND: Color = (60, 62, 66)

_SIDE = 440
_LARGEST = 8.0
"""Small objects are shown so many times larger at the most."""
_MARGIN = 0.6
_LEAST = 40.0
_FAR = 1.5
"""Boxes that lie farther outside, in sides of the image, are not shown."""
_MOST_OTHERS = 200


class _Window(NamedTuple):
    """A part of an image, which may reach beyond it, and how much larger it is drawn."""

    left: float
    top: float
    right: float
    bottom: float
    scale: float

    def place(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) of the image as whole pixels of the picture."""
        moved = (np.asarray(points, np.float64) - (self.left, self.top)) * self.scale
        return np.round(moved.clip(-1e5, 1e5)).astype(np.int32)


def picture_of(example: Example, records: Records, mended: Records | None = None) -> Picture | str:
    """The place of an example, drawn; or in words why that cannot be.

    Args:
        example: one with a row. records: those it was found in. mended: the same as a patch leaves them; what differs
            is drawn beside.

    Returns:
        (H, W, 3) uint8 RGB, at most 440 pixels a side: the annotation, or all of the image if the example names none.
    """
    assert example.row is not None
    try:
        image = _image(records, example.row)
    except VisionTasksError as error:
        return str(error)
    own = np.arange(int(records.first[example.row]), int(records.first[example.row + 1]))
    ids = records.annotation_ids[own]
    chosen = own[ids == example.annotation_id] if example.annotation_id is not None else own
    after = _mended_boxes(records, chosen, mended)
    size = (image.shape[0], image.shape[1])
    whole = example.annotation_id is None
    window = _window(size, records.boxes[chosen], after, whole)
    canvas = _cut(image, window)
    if not whole:
        others = own[ids != example.annotation_id][:_MOST_OTHERS]
        _paint_boxes(canvas, records.boxes[others], window, OTHERS, 1)
    for i in chosen[:_MOST_OTHERS].tolist():
        _paint_outline(canvas, records, i, window, size)
    _paint_boxes(canvas, records.boxes[chosen], window, WRITTEN, 2)
    _paint_boxes(canvas, after, window, MENDED, 2)
    return canvas


def forget() -> None:
    """Let the last image go."""
    _image.cache_clear()


@lru_cache(maxsize=1)
def _image(records: Records, row: int) -> Picture:
    """As its annotations are meant for it if they are of its size, else as viewers show it. The last one is kept."""
    path = records.image_path(row)
    try:
        pixels = read_image(path, records.size(row))
    except ImageSizeError:
        pixels = read_image(path)
    return to_rgb8(displayed(pixels))


def _mended_boxes(records: Records, chosen: np.ndarray, mended: Records | None) -> np.ndarray:
    """Boxes (m, 4) that a patch has changed, as they are after it."""
    if mended is None or not len(chosen):
        return np.zeros((0, 4))
    ids = records.annotation_ids[chosen]
    at = np.flatnonzero(np.isin(mended.annotation_ids, ids))
    place = {int(i): k for i, k in zip(ids, chosen, strict=True)}
    old = records.boxes[[place[int(i)] for i in mended.annotation_ids[at]]].reshape(-1, 4)
    new = mended.boxes[at]
    changed = ~np.isclose(old, new, rtol=0, atol=1e-6, equal_nan=True).all(1)
    return np.asarray(new[changed])


def _window(size: Size, written: np.ndarray, after: np.ndarray, whole: bool) -> _Window:
    """What to show: a single object with some of what is around it, or the image with whatever leaves it."""
    height, width = size
    boxes = np.concatenate([written, after])
    boxes = boxes[np.isfinite(boxes).all(1) & (np.abs(boxes) < 1e9).all(1)]
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    limit = np.array([width, height])
    corners = corners.clip(-_FAR * limit, (1 + _FAR) * limit)
    if whole or not len(corners) or (corners < 0).any() or (corners > limit).any():
        corners = np.concatenate([corners, [[0, 0], limit]])  # what leaves the image is shown beside all of it
        low, high = corners.min(0), corners.max(0)
    else:
        low, high = corners.min(0), corners.max(0)
        margin = np.maximum(_MARGIN * (high - low), _LEAST)
        low, high = (low - margin).clip(0, None), (high + margin).clip(None, limit)
    low, high = np.floor(low), np.maximum(np.ceil(high), np.floor(low) + 1)
    scale = min(_SIDE / float((high - low).max()), _LARGEST)
    return _Window(float(low[0]), float(low[1]), float(high[0]), float(high[1]), scale)


def _cut(image: Picture, window: _Window) -> Picture:
    """The window of the image, enlarged or made smaller; grey where there is no image."""
    height, width = image.shape[:2]
    size = [max(1, round((window.bottom - window.top) * window.scale)),
            max(1, round((window.right - window.left) * window.scale))]  # fmt: skip
    canvas = np.full((*size, 3), _AROUND, np.uint8)
    x1, y1 = max(0, int(window.left)), max(0, int(window.top))
    x2, y2 = min(width, math.ceil(window.right)), min(height, math.ceil(window.bottom))
    if x1 >= x2 or y1 >= y2:
        return canvas
    (left, top), (right, bottom) = window.place(np.array([[x1, y1], [x2, y2]]))
    right, bottom = min(max(right, left + 1), size[1]), min(max(bottom, top + 1), size[0])
    way = cv2.INTER_AREA if window.scale < 1 else cv2.INTER_NEAREST if window.scale > 3 else cv2.INTER_LINEAR
    part = np.ascontiguousarray(image[y1:y2, x1:x2])
    canvas[top:bottom, left:right] = cv2.resize(part, (int(right - left), int(bottom - top)), interpolation=way)
    return canvas


def _paint_boxes(canvas: Picture, boxes: np.ndarray, window: _Window, color: Color, width: int) -> None:
    """Frames with a dark line around them, so that they are seen on any ground."""
    boxes = boxes[np.isfinite(boxes).all(1)]
    low, high = window.place(boxes[:, :2]), window.place(boxes[:, :2] + boxes[:, 2:])
    for (x1, y1), (x2, y2) in zip(low.tolist(), high.tolist(), strict=True):
        cv2.rectangle(canvas, (x1, y1), (x2, y2), (20, 20, 20), width + 2, cv2.LINE_AA)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), color, width, cv2.LINE_AA)


def _paint_outline(canvas: Picture, records: Records, index: int, window: _Window, size: Size) -> None:
    shape = records.segmentation(index)
    if shape is None:
        return
    if isinstance(shape, dict):
        if math.prod(shape["size"]) > 4 * size[0] * size[1] + 1_000_000:  # not of this image
            return
        found, _ = cv2.findContours(coco_mask.decode(shape), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        rings = [ring.reshape(-1, 2) + 0.5 for ring in found]
    else:
        rings = list(shape)
    placed = [window.place(ring).reshape(-1, 1, 2) for ring in rings]
    cv2.polylines(canvas, placed, True, (20, 20, 20), 3, cv2.LINE_AA)
    cv2.polylines(canvas, placed, True, OUTLINE, 1, cv2.LINE_AA)
