"""Crops for training, of one size in the network's pixels, around what is worth seeing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator

from vision_tasks.categories import Categories
from vision_tasks.data.dataset import Sample
from vision_tasks.data.geometry import move_target
from vision_tasks.structures import Size, Target

Focus = Literal["none", "foreground", "balanced"]

NetworkSize = Callable[[Size, int | None], Size]
"""(height, width) of an image and the batch's shorter side, if it has one, to (height, width) in network pixels."""

# Places tried before a crop with too much of one category is taken.
_TRIES = 10

_BACKGROUND = ("background", "_background_", "__background__", "bg")


@dataclass(frozen=True)
class SemanticCrop:
    """A region of the image that, resized once, fills the network's input.

    The region is `size` divided by the scale at which the model sees the whole image, times a random factor: with a
    factor of 1 objects are as large in training as in prediction. It is cut from the image in the file's own pixels,
    and `Sample.size` has the model's preprocess stretch it to `size`, so that pixels are resampled once. Its sides are
    whole pixels, which changes the scale by less than one pixel in the region's side. Where it leaves the image it is
    filled with `fill`, and the semantic map with -1. Boxes and masks go along. A transform after it that
    changes the image's size or shape changes the scale, as the result is stretched to `size` all the same.

    `focus` chooses the place. "none": anywhere. "foreground": so that a pixel of the foreground is in it; each of the
    image's is as likely to be the one. "balanced": so that a pixel of a category is in it that was drawn from those in
    the image, each as likely, however rare; with every image taken once a pass, rare categories are then seen as often
    as the images have them, not as their pixels do. (Weights by frequency in the whole data set would take a pass over
    all its maps first.) Around that pixel the place is drawn, too. An image without a semantic map is focused on its
    objects: on a random point of a box. One that has nothing to focus on is cropped anywhere.

    Args:
        size: (height, width) in network pixels. network_size: of the model's preprocess.
        scale: smallest and largest factor, drawn evenly. focus: see above.
        fill: colour outside the image, per channel in 0..1, as the image's channels come.
        background: the label that is no foreground, or None.
        max_share: of the labelled pixels that one category may fill; ten places are tried, and the last is taken
            (0.75 in MMSegmentation's recipes; 1 tries none but the first).
    """

    size: Size
    network_size: NetworkSize
    scale: tuple[float, float] = (0.5, 2.0)
    focus: Focus = "none"
    fill: tuple[float, ...] = (0.0,)
    background: int | None = 0
    max_share: float = 1.0

    def __call__(self, sample: Sample, random: Generator) -> Sample:
        """The crop with its truth; the given image is not modified."""
        if sample.image is None:
            return sample
        image, target = sample.image, sample.target
        own = (image.shape[0], image.shape[1])
        seen = self.network_size(own, sample.request.min_size)
        factor = random.uniform(*self.scale)
        height, width = (max(1, round(self.size[i] * own[i] / (seen[i] * factor))) for i in (0, 1))
        top = left = 0
        for _ in range(1 if self.max_share >= 1 else _TRIES):
            pixel = self._pixel(target, random)
            top, left = (
                _start(side, length, None if pixel is None else pixel[i], random)
                for i, (side, length) in enumerate(zip(own, (height, width), strict=True))
            )
            if self._is_varied(target, top, left, height, width):
                break
        peak = np.iinfo(image.dtype).max
        colour = np.rint(np.resize(self.fill, image.shape[2]) * peak).astype(image.dtype)
        return replace(
            sample,
            image=_window(image, top, left, (height, width), colour),
            target=_cropped(target, top, left, (height, width)),
            size=self.size,
        )

    def _pixel(self, target: Target, random: Generator) -> tuple[int, int] | None:
        """(row, column) to be in the crop; None if any place will do."""
        if self.focus == "none":
            return None
        if target.semantic is None:
            return self._point_of_an_object(target, random)
        labels = target.semantic.numpy()
        if self.focus == "balanced":
            wanted = _of_one_category(labels, random)
        elif labels.ndim == 3:
            there = labels == 1
            if self.background is not None:
                there[self.background] = False
            wanted = there.any(axis=0)
        else:
            wanted = labels >= 0
            if self.background is not None:
                wanted &= labels != self.background
        pixels = np.flatnonzero(wanted)
        if not len(pixels):
            return None
        row, column = divmod(int(pixels[random.integers(len(pixels))]), labels.shape[-1])
        return row, column

    def _point_of_an_object(self, target: Target, random: Generator) -> tuple[int, int] | None:
        if target.boxes is None or target.labels is None:
            return None
        known = torch.ones(len(target.boxes), dtype=torch.bool) if target.is_crowd is None else ~target.is_crowd
        boxes, labels = target.boxes[known].numpy(), target.labels[known].numpy()
        if not len(boxes):
            return None
        if self.focus == "balanced":
            boxes = boxes[labels == random.choice(np.unique(labels))]
        x1, y1, x2, y2 = boxes[random.integers(len(boxes))].tolist()
        row, column = int(random.uniform(y1, y2)), int(random.uniform(x1, x2))
        return min(row, target.size[0] - 1), min(column, target.size[1] - 1)

    def _is_varied(self, target: Target, top: int, left: int, height: int, width: int) -> bool:
        if self.max_share >= 1 or target.semantic is None or target.semantic.ndim == 3:
            return True
        part = target.semantic[max(top, 0) : top + height, max(left, 0) : left + width]
        counts = torch.bincount(part.flatten().long() + 1)[1:]
        return bool(len(counts)) and bool(counts.max() <= self.max_share * counts.sum())


def background_of(categories: Categories, multi_label: bool = False) -> int | None:
    """The label that is no foreground: the category named so, else the first; None where each is decided on its own."""
    for label, name in enumerate(categories.names):
        if name.lower() in _BACKGROUND:
            return label
    return None if multi_label or len(categories) == 1 else 0


def _of_one_category(labels: np.ndarray, random: Generator) -> np.ndarray:
    """Where (H, W) bool a category is that was drawn from those in the map, (H, W) labels or (L, H, W) layers."""
    if labels.ndim == 3:
        present = np.flatnonzero((labels == 1).any(axis=(1, 2)))
    else:
        present = np.flatnonzero(np.bincount(labels.ravel() + 1)[1:])
    if not len(present):
        return np.zeros(labels.shape[-2:], dtype=bool)
    category = int(random.choice(present))
    chosen: np.ndarray = labels[category] == 1 if labels.ndim == 3 else labels == category
    return chosen


def _start(side: int, length: int, pixel: int | None, random: Generator) -> int:
    """Where a stretch of this length starts on a side: inside it if it is shorter, around it if it is longer.

    Drawn evenly, from the places that hold the pixel if one is given.
    """
    low, high = min(0, side - length), max(0, side - length)
    if pixel is not None:
        low, high = max(low, pixel - length + 1), min(high, pixel)
    return int(random.integers(low, high + 1))


def _window(array: np.ndarray, top: int, left: int, size: Size, fill: np.ndarray | int) -> np.ndarray:
    """A copy of (H, W, ...) from (top, left) on, of (height, width), with `fill` where that is outside."""
    (height, width), (own_height, own_width) = size, array.shape[:2]
    y1, x1, y2, x2 = max(top, 0), max(left, 0), min(top + height, own_height), min(left + width, own_width)
    if (y2 - y1, x2 - x1) == size:
        return array[y1:y2, x1:x2].copy()
    out = np.empty((height, width, *array.shape[2:]), dtype=array.dtype)
    out[:] = fill
    out[y1 - top : y2 - top, x1 - left : x2 - left] = array[y1:y2, x1:x2]
    return out


def _cropped(target: Target, top: int, left: int, size: Size) -> Target:
    shift = np.array([left, top], dtype=np.float64)
    moved = move_target(
        replace(target, semantic=None),
        size,
        lambda points: points - shift,
        lambda bitmap: _window(bitmap, top, left, size, 0),
    )
    if target.semantic is None:
        return moved
    if target.semantic.ndim == 3:
        layers = [_window(layer, top, left, size, -1) for layer in target.semantic.numpy()]
        return replace(moved, semantic=torch.from_numpy(np.stack(layers)))
    return replace(moved, semantic=torch.from_numpy(_window(target.semantic.numpy(), top, left, size, -1)))
