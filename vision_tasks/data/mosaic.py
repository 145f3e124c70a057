"""Mosaic and mixup: samples made of several images.

Mosaic is of Bochkovskiy et al., "YOLOv4" (2020), mixup of Zhang et al. (2017); their order and ranges are of Ge et al.,
"YOLOX" (2021), and its published recipes. Truth moves by `geometry.move_target`, so that boxes, outlines, run lengths,
crowds and areas stay together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.random import Generator

from vision_tasks.data.dataset import DetectionDataset, Sample
from vision_tasks.data.geometry import keep_rows, move_target
from vision_tasks.structures import Masks, Size, Target

# Grey where no image reaches, of 255; YOLOX's.
_PAD = 114

# An object is kept if it has at least this many pixels either way, and at least this part of it was not cut away: what
# YOLOX's random affine keeps.
_MIN_SIDE = 2.0
_MIN_VISIBLE = 0.2

# Draws for a mixup's second image; an empty one would only dim the first.
_TRIES = 10

T = TypeVar("T")


@dataclass(frozen=True)
class Mosaic:
    """Four images around one point, then turned, scaled, sheared and moved together: one image of a fixed size.

    Each image is brought into `size` as a letterbox would, and laid with one corner at a point drawn from the middle
    half of a canvas of twice that size, which is cut to `size` by an affine map about the canvas's centre. The image
    asked for lies at the upper left, the three others are drawn from the whole data set, so that one may come twice;
    of several data sets in one from the same, as what nobody annotated in one part is then unknown in the whole.

    Objects that are then smaller than 2 pixels either way, or of which less than a fifth is left, are dropped with
    their masks. The result has 16 bits if one of the images has.

    Args:
        probability: of making one; else the sample stays as it is.
        size: (height, width) of the result.
        scale: smallest and largest factor; YOLOX takes (0.1, 2), and (0.5, 1.5) for its nano and tiny.
        degrees, shear: largest turn and shear, in degrees. translate: largest shift, as a share of the size.
    """

    probability: float
    size: Size
    scale: tuple[float, float] = (0.1, 2.0)
    degrees: float = 10.0
    translate: float = 0.1
    shear: float = 2.0

    def __call__(self, sample: Sample, random: Generator, dataset: DetectionDataset) -> Sample:
        """The mosaic, which keeps the image id and the request of `sample`."""
        if random.random() >= self.probability or sample.image is None:
            return sample
        height, width = self.size
        like = dataset.rows_like(sample.request.index)
        rows = random.integers(like.start, like.stop, size=3).tolist()
        x, y = (int(side * random.uniform(0.5, 1.5)) for side in (width, height))
        affine = self._affine(random)
        samples = [sample, *map(dataset.read, rows)]
        images = _of_one_type([s.image for s in samples if s.image is not None])
        canvas = _grey((2 * height, 2 * width), images[0])
        targets = []
        for i, (image, member) in enumerate(zip(images, samples, strict=True)):
            scaled = _fitted(image, self.size)
            h, w = scaled.shape[:2]
            left, top = (x - w, x)[i % 2], (y - h, y)[i // 2]
            x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + w, 2 * width), min(top + h, 2 * height)
            canvas[y1:y2, x1:x2] = scaled[y1 - top : y2 - top, x1 - left : x2 - left]
            # What the canvas cuts off must be gone before anything turns.
            onto_piece = _scaling(w / image.shape[1], h / image.shape[0], left - x1, top - y1)
            onto_result = affine @ _scaling(1, 1, x1, y1)
            steps = [(onto_piece, (y2 - y1, x2 - x1)), (onto_result, self.size)]
            if (h, w) == (y2 - y1, x2 - x1):  # nothing is cut off: masks need to be drawn only once
                steps = [(onto_result @ onto_piece, self.size)]
            targets.append(_carried(member.target, steps))
        return replace(
            sample,
            image=_warped(canvas, affine, self.size),
            target=_joined(targets, _semantic_side_by_side),
            unreadable=[entry for s in samples for entry in s.unreadable],
        )

    def _affine(self, random: Generator) -> np.ndarray:
        """(3, 3) map from the canvas to the result, in continuous pixels."""
        height, width = self.size
        angle = math.radians(random.uniform(-self.degrees, self.degrees))
        factor = random.uniform(*self.scale)
        shear_x, shear_y = (math.tan(math.radians(v)) for v in random.uniform(-self.shear, self.shear, 2))
        shift_x, shift_y = random.uniform(0.5 - self.translate, 0.5 + self.translate, 2) * (width, height)
        cos, sin = factor * math.cos(angle), factor * math.sin(angle)
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        shear = np.array([[1, shear_x, 0], [shear_y, 1, 0], [0, 0, 1]])
        return np.asarray(_scaling(1, 1, shift_x, shift_y) @ shear @ turn @ _scaling(1, 1, -width, -height))


@dataclass(frozen=True)
class MixUp:
    """Half the sample, half another image, with the objects of both.

    The other image is brought to the sample's size as a letterbox would, scaled once more, mirrored half the time, and
    laid at a random place, cut where it is larger and on grey where it is smaller. It is drawn from those with
    annotations, of the same data set. What `Mosaic` says of small and cut objects and of 16 bits holds for the other
    image's, too.

    Args:
        probability: of mixing; else the sample stays as it is. scale: smallest and largest factor.
    """

    probability: float
    scale: tuple[float, float] = (0.5, 1.5)

    def __call__(self, sample: Sample, random: Generator, dataset: DetectionDataset) -> Sample:
        """The mixture, which keeps the size, the image id and the request of `sample`."""
        if random.random() >= self.probability or sample.image is None:
            return sample
        like = dataset.rows_like(sample.request.index)
        rows = random.integers(like.start, like.stop, size=_TRIES).tolist()
        factor = random.uniform(*self.scale)
        mirror = random.random() < 0.5
        place_x, place_y = random.uniform(size=2)
        other = dataset.read(next((row for row in rows if dataset.has_annotations(row)), rows[0]))
        assert other.image is not None
        image, added = _of_one_type([sample.image, other.image])
        height, width = image.shape[:2]
        scaled = _fitted(added, (height, width), factor)
        h, w = scaled.shape[:2]
        left, top = round(place_x * (width - w)), round(place_y * (height - h))
        if mirror:
            scaled = scaled[:, ::-1]
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + w, width), min(top + h, height)
        layer = _grey((height, width), image)
        layer[y1:y2, x1:x2] = scaled[y1 - top : y2 - top, x1 - left : x2 - left]
        across = w / added.shape[1]
        matrix = _scaling(-across if mirror else across, h / added.shape[0], left + w if mirror else left, top)
        targets = [sample.target, _carried(other.target, [(matrix, (height, width))])]
        return replace(
            sample,
            image=cv2.addWeighted(image, 0.5, layer, 0.5, 0).reshape(image.shape),
            target=_joined(targets, _semantic_on_top_of_each_other),
            unreadable=[*sample.unreadable, *other.unreadable],
        )


def _of_one_type(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The images, all of 16 bits if one is."""
    if len({image.dtype for image in images}) == 1:
        return list(images)
    return [image if image.dtype == np.uint16 else image.astype(np.uint16) * np.uint16(257) for image in images]


def _full_scale(image: np.ndarray) -> int:
    return int(np.iinfo(image.dtype).max)


def _grey(size: Size, like: np.ndarray) -> np.ndarray:
    return np.full((*size, like.shape[2]), _full_scale(like) // 255 * _PAD, dtype=like.dtype)


def _fitted(image: np.ndarray, size: Size, factor: float = 1.0) -> np.ndarray:
    """The image brought into a size as a letterbox would, times a factor; plain bilinear, as the model's preprocess."""
    ratio = factor * min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, round(side * ratio)) for side in image.shape[:2])
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized.reshape(height, width, -1)  # OpenCV drops a single channel's axis


def _warped(image: np.ndarray, matrix: np.ndarray, size: Size) -> np.ndarray:
    """The image under an affine map, on grey; OpenCV knows a border's colour for four channels at most."""
    grey = [float(_full_scale(image) // 255 * _PAD)] * 4
    parts = [
        cv2.warpAffine(image[..., i : i + 4], _of_pixel_centres(matrix), size[::-1], borderValue=grey)
        for i in range(0, image.shape[2], 4)
    ]
    return np.concatenate([part.reshape(*size, -1) for part in parts], axis=2)


def _scaling(x: float, y: float, left: float, top: float) -> np.ndarray:
    """(3, 3) map that scales, then shifts."""
    return np.array([[x, 0, left], [0, y, top], [0, 0, 1]], dtype=np.float64)


def _of_pixel_centres(matrix: np.ndarray) -> np.ndarray:
    """(2, 3) map of pixel indices, as OpenCV takes it, that does what the matrix does to continuous pixels."""
    return np.asarray(_scaling(1, 1, -0.5, -0.5) @ matrix @ _scaling(1, 1, 0.5, 0.5))[:2]


def _carried(target: Target, steps: Sequence[tuple[np.ndarray, Size]]) -> Target:
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
    large = (moved.boxes[:, 2:] - moved.boxes[:, :2] >= _MIN_SIDE).all(dim=1)
    moved = keep_rows(moved, large & (moved.area >= _MIN_VISIBLE * whole))
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


def _joined(targets: Sequence[Target], semantic: Callable[[list[torch.Tensor]], torch.Tensor]) -> Target:
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


def _semantic_side_by_side(maps: list[torch.Tensor]) -> torch.Tensor:
    """Each is -1 where the others are."""
    return torch.stack(maps).amax(dim=0)


def _semantic_on_top_of_each_other(maps: list[torch.Tensor]) -> torch.Tensor:
    """Where two categories shine through each other there is no one answer; of several labels both hold."""
    lower, upper = maps
    if lower.ndim == 3:
        return torch.maximum(lower, upper)
    return torch.where((lower == upper) | (upper == -1), lower, torch.where(lower == -1, upper, -1))
