"""Several images on one canvas, and their truth with them: what mosaic, mixup and copy-paste are made of.

Truth moves by `geometry.move_target`, so that boxes, outlines, run lengths, crowds and areas stay together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np
import torch
from numpy.random import Generator

from vision_tasks.data.geometry import keep_rows, move_target
from vision_tasks.structures import Masks, Size, Target

# Grey where no image reaches, of 255; YOLOX's.
_PAD = 114

# The mean colour of ImageNet, of 255.
_MEAN = (123, 117, 104)

MIN_SIDE = 2.0
"""An object is kept if it has at least this many pixels either way,"""
MIN_VISIBLE = 0.2
"""and at least this part of it was not cut away: what YOLOX's random affine keeps."""

# Draws for a second image; one without objects would only dim the first, or have nothing to paste.
_TRIES = 10

if TYPE_CHECKING:
    from vision_tasks.data.dataset import DetectionDataset, Sample, Unreadable

T = TypeVar("T")


@dataclass(frozen=True)
class Overlay:
    """Another image on the grid of a sample.

    Attributes:
        image: the sample's own, of 16 bits if either is. layer: (H, W, C) of that type, grey where the other image
            does not reach. target: the other's truth there. unreadable: what could not be read for it.
    """

    image: np.ndarray
    layer: np.ndarray
    target: Target
    unreadable: list[Unreadable]


def laid_over(sample: Sample, random: Generator, dataset: DetectionDataset, scale: tuple[float, float]) -> Overlay:
    """An annotated image of the same data set, to be mixed or pasted into the sample, which has an image.

    It is brought to the sample's size as a letterbox would, scaled by a factor drawn from `scale`, mirrored half the
    time, and laid at a random place, cut where it is larger. Of its objects those are left that `carried` leaves.
    """
    assert sample.image is not None
    like = dataset.rows_like(sample.request.index)
    rows = random.integers(like.start, like.stop, size=_TRIES).tolist()
    factor = random.uniform(*scale)
    mirror = random.random() < 0.5
    place_x, place_y = random.uniform(size=2)
    other = dataset.read(next((row for row in rows if dataset.has_annotations(row)), rows[0]))
    assert other.image is not None
    image, added = of_one_type([sample.image, other.image])
    height, width = image.shape[:2]
    scaled = fitted(added, (height, width), factor)
    h, w = scaled.shape[:2]
    left, top = round(place_x * (width - w)), round(place_y * (height - h))
    if mirror:
        scaled = scaled[:, ::-1]
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + w, width), min(top + h, height)
    layer = grey((height, width), image)
    layer[y1:y2, x1:x2] = scaled[y1 - top : y2 - top, x1 - left : x2 - left]
    across = w / added.shape[1]
    matrix = scaling(-across if mirror else across, h / added.shape[0], left + w if mirror else left, top)
    return Overlay(image, layer, carried(other.target, [(matrix, (height, width))]), other.unreadable)


def of_one_type(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The images, all of 16 bits if one is."""
    if len({image.dtype for image in images}) == 1:
        return list(images)
    return [image if image.dtype == np.uint16 else image.astype(np.uint16) * np.uint16(257) for image in images]


def full_scale(image: np.ndarray) -> int:
    return int(np.iinfo(image.dtype).max)


def grey(size: Size, like: np.ndarray) -> np.ndarray:
    return np.full((*size, like.shape[2]), full_scale(like) // 255 * _PAD, dtype=like.dtype)


def filled(size: Size, like: np.ndarray) -> np.ndarray:
    """An image (height, width, C) of the mean colour, of the type and the channels of another."""
    canvas = np.empty((*size, like.shape[2]), dtype=like.dtype)
    canvas[:] = np.resize(_MEAN, like.shape[2]) * (full_scale(like) // 255)
    return canvas


def fitted(image: np.ndarray, size: Size, factor: float = 1.0) -> np.ndarray:
    """The image brought into a size as a letterbox would, times a factor; plain bilinear, as the model's preprocess."""
    ratio = factor * min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, round(side * ratio)) for side in image.shape[:2])
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized.reshape(height, width, -1)  # OpenCV drops a single channel's axis


def warped(image: np.ndarray, matrix: np.ndarray, size: Size) -> np.ndarray:
    """The image under an affine map, on grey; OpenCV knows a border's colour for four channels at most."""
    grey = [float(full_scale(image) // 255 * _PAD)] * 4
    parts = [
        cv2.warpAffine(image[..., i : i + 4], _of_pixel_centres(matrix), size[::-1], borderValue=grey)
        for i in range(0, image.shape[2], 4)
    ]
    return np.concatenate([part.reshape(*size, -1) for part in parts], axis=2)


def scaling(x: float, y: float, left: float, top: float) -> np.ndarray:
    """(3, 3) map that scales, then shifts."""
    return np.array([[x, 0, left], [0, y, top], [0, 0, 1]], dtype=np.float64)


def _of_pixel_centres(matrix: np.ndarray) -> np.ndarray:
    """(2, 3) map of pixel indices, as OpenCV takes it, that does what the matrix does to continuous pixels."""
    return np.asarray(scaling(1, 1, -0.5, -0.5) @ matrix @ scaling(1, 1, 0.5, 0.5))[:2]


def carried(target: Target, steps: Sequence[tuple[np.ndarray, Size]]) -> Target:
    """The truth after affine maps, cut to a size after each, without objects that became too small or too cut."""
    if target.boxes is None:
        return _moved(target, steps)
    # Areas of one, and rows for labels, tell how much is left of which object.
    n = len(target.boxes)
    counted = replace(target, labels=torch.arange(n), area=torch.ones(n, dtype=torch.float64), is_crowd=None)
    moved = _moved(counted, steps)
    assert moved.boxes is not None
    assert moved.labels is not None
    assert moved.area is not None
    whole = math.prod(abs(float(np.linalg.det(matrix))) for matrix, _ in steps)
    large = (moved.boxes[:, 2:] - moved.boxes[:, :2] >= MIN_SIDE).all(dim=1)
    moved = keep_rows(moved, large & (moved.area >= MIN_VISIBLE * whole))
    rows, change = moved.labels, moved.area
    assert rows is not None
    assert change is not None
    return replace(
        moved,
        labels=None if target.labels is None else target.labels[rows],
        area=None if target.area is None else target.area[rows] * change.to(target.area.dtype),
        is_crowd=None if target.is_crowd is None else target.is_crowd[rows],
    )


def _moved(target: Target, steps: Sequence[tuple[np.ndarray, Size]]) -> Target:
    for matrix, size in steps:
        target = _moved_once(target, matrix, size)
    return target


def _moved_once(target: Target, matrix: np.ndarray, size: Size) -> Target:
    def points(given: np.ndarray) -> np.ndarray:
        return np.asarray(given @ matrix[:2, :2].T + matrix[:2, 2])

    def bitmap(given: np.ndarray) -> np.ndarray:
        return cv2.warpAffine(given, _of_pixel_centres(matrix), size[::-1], flags=cv2.INTER_NEAREST)

    return move_target(target, size, points, bitmap)


def joined(targets: Sequence[Target], semantic: Callable[[list[torch.Tensor]], torch.Tensor]) -> Target:
    """One truth of several on one grid, with the first's id. What nobody annotated in one, nobody did in the whole."""

    def all_of(values: list[T | None]) -> list[T] | None:
        known = [value for value in values if value is not None]
        return known if len(known) == len(values) else None

    def joined(values: list[torch.Tensor | None]) -> torch.Tensor | None:
        known = all_of(values)
        return None if known is None else torch.cat(known)

    size = targets[0].size
    masks = all_of([t.masks for t in targets])
    maps = all_of([t.semantic for t in targets])
    return Target(
        image_id=targets[0].image_id,
        size=size,
        boxes=joined([t.boxes for t in targets]),
        labels=joined([t.labels for t in targets]),
        masks=None if masks is None else Masks(size, shapes=[shape for m in masks for shape in m.shapes or []]),
        area=joined([t.area for t in targets]),
        is_crowd=joined([t.is_crowd for t in targets]),
        semantic=None if maps is None else semantic(maps),
    )
