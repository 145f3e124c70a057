"""Crops that Albumentations does not have: SSD's by overlap, with its zooming out, and one that keeps objects whole.

SSD's are of Liu et al., "SSD: Single Shot MultiBox Detector" (2016), sections 2.2 and 3.6; numbers as in torchvision's
reference.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.random import Generator

from vision_tasks.data.canvas import filled
from vision_tasks.data.geometry import keep_rows, move_target
from vision_tasks.errors import VisionTasksError
from vision_tasks.ops.boxes import pairwise_iou
from vision_tasks.structures import Size, Target

_TRIALS = 40
_OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)


class IoUCrop:
    """A crop of 0.3 to 1 times either side that overlaps some object by at least a drawn IoU.

    The IoU is 0, 0.1, 0.3, 0.5, 0.7 or 0.9; one time in seven the image stays whole. Objects stay whose box has its
    middle inside; of these one must have the overlap. After 40 failed trials another IoU is drawn, ten times at most,
    and then the image stays whole. An image without objects stays whole.

    Args:
        p: how often a crop is tried at all.
    """

    def __init__(self, p: float = 1.0) -> None:
        self.p = _probability(p)

    def __call__(self, image: np.ndarray, target: Target, random: Generator) -> tuple[np.ndarray, Target]:
        """The crop with its truth; `image` is not modified."""
        if random.random() >= self.p or target.boxes is None or not len(target.boxes):
            return image, target
        boxes = target.boxes.to(torch.float64)
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        for _ in range(10):
            overlap = random.choice((*_OVERLAPS, 1.0))
            if overlap == 1.0:
                break
            for x, y, w, h in _windows(random, image.shape[:2]):
                window = boxes.new_tensor([[x, y, x + w, y + h]])
                inside = ((middles > window[:, :2]) & (middles < window[:, 2:])).all(dim=1)
                if bool(inside.any()) and float(pairwise_iou(boxes[inside], window).max()) >= overlap:
                    return _cut(image, keep_rows(target, inside), (x, y, w, h))
        return image, target


class ZoomOut:
    """The image shrunk up to `side` times, somewhere on a canvas of the mean colour: small objects are made of large.

    SSD enlarges the canvas instead. Here the size stays, and with it the memory: the model resizes the result anyway.

    Args:
        side: largest factor. p: how often.
    """

    def __init__(self, side: float = 4.0, p: float = 0.5) -> None:
        self.side, self.p = side, _probability(p)
        if not 1 <= side <= 100:
            raise VisionTasksError(f"data.augment: ZoomOut: side is {side}, but must lie within 1 and 100")

    def __call__(self, image: np.ndarray, target: Target, random: Generator) -> tuple[np.ndarray, Target]:
        """The smaller image with its truth, of the same size as before."""
        if random.random() >= self.p:
            return image, target
        factor = random.uniform(1, self.side)
        height, width = image.shape[:2]
        h, w = max(1, round(height / factor)), max(1, round(width / factor))
        y, x = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
        canvas = filled((height, width), image)
        # OpenCV takes four channels at most where it averages areas.
        for i in range(0, image.shape[2], 4):
            part = cv2.resize(image[..., i : i + 4], (w, h), interpolation=cv2.INTER_AREA)
            canvas[y : y + h, x : x + w, i : i + 4] = part.reshape(h, w, -1)
        scale, shift = np.array([w / width, h / height]), np.array([x, y])

        def bitmap(given: np.ndarray) -> np.ndarray:
            out = np.zeros_like(given)
            out[y : y + h, x : x + w] = cv2.resize(given, (w, h), interpolation=cv2.INTER_NEAREST_EXACT)
            return out

        return canvas, move_target(target, (height, width), lambda points: points * scale + shift, bitmap)


class ObjectCrop:
    """A crop around an object that cuts no object badly: of each, enough is inside or nothing at all.

    Sides are drawn from `side` times the image's, their shape at most a factor of two from it, and the place so that an
    object drawn by chance lies inside as far as it can. Of 40 such windows the first is taken of which every box has at
    least `visible` of its area inside, or nothing; if there is none, as where objects are crowded, the image stays
    whole. An image without objects is cropped anywhere. Crowds are regions to be ignored: they may be cut.

    Args:
        side: smallest and largest side of the crop, as parts of the image's.
        visible: least part of a box's area that may be left of an object that is kept. p: how often.

    Raises:
        VisionTasksError: an argument that cannot be.
    """

    def __init__(
        self, side: tuple[float, float] | list[float] = (0.3, 1.0), visible: float = 0.7, p: float = 1.0
    ) -> None:
        if len(side) != 2 or not 0.01 <= side[0] <= side[1] <= 1:
            raise VisionTasksError(
                f"data.augment: ObjectCrop: side is {side}, but must be [smallest, largest] within 0.01 and 1"
            )
        if not 0 < visible <= 1:
            raise VisionTasksError(
                f"data.augment: ObjectCrop: visible is {visible}, but must be above 0, and 1 at most"
            )
        self.side, self.visible, self.p = (float(side[0]), float(side[1])), visible, _probability(p)

    def __call__(self, image: np.ndarray, target: Target, random: Generator) -> tuple[np.ndarray, Target]:
        """The crop with its truth; `image` is not modified."""
        if random.random() >= self.p:
            return image, target
        boxes = np.zeros((0, 4)) if target.boxes is None else target.boxes.numpy().astype(np.float64)
        if target.is_crowd is not None:
            boxes = boxes[~target.is_crowd.numpy()]
        windows = self._around(boxes, (image.shape[0], image.shape[1]), random)
        shares = _shares(boxes, windows)
        fine = ((shares == 0) | (shares >= self.visible)).all(axis=1) & ((shares > 0).any(axis=1) | (len(boxes) == 0))
        if not fine.any():
            return image, target
        x, y, w, h = windows[int(np.argmax(fine))].tolist()
        return _cut(image, target, (x, y, w, h))

    def _around(self, boxes: np.ndarray, size: Size, random: Generator) -> np.ndarray:
        """(40, 4) int64 windows x, y, width, height, each around one of the boxes (N, 4)."""
        common = random.uniform(*self.side, _TRIALS)
        sides = np.clip(common[:, None] * 2 ** random.uniform(-0.5, 0.5, (_TRIALS, 2)), *self.side)
        whole = np.array([size[1], size[0]])
        length = np.maximum(1, np.rint(whole * sides)).astype(np.int64)
        low, high = np.zeros((_TRIALS, 2)), (whole - length).astype(np.float64)
        if len(boxes):
            chosen = boxes[random.integers(len(boxes), size=_TRIALS)]
            # Between the places where either edge of the object lies on that of the window.
            ends = np.sort(np.stack([chosen[:, :2], chosen[:, 2:] - length]), axis=0)
            low, high = ends[0].clip(low, high), ends[1].clip(low, high)
        start = np.rint(random.uniform(low, high)).astype(np.int64)
        return np.concatenate([start.clip(0, whole - length), length], axis=1)


def _windows(random: Generator, size: Size) -> list[tuple[int, int, int, int]]:
    """Trial windows (x, y, width, height) whose sides differ at most by a factor of two."""
    height, width = size
    w = np.maximum(1, (width * random.uniform(0.3, 1, _TRIALS)).astype(np.int64))
    h = np.maximum(1, (height * random.uniform(0.3, 1, _TRIALS)).astype(np.int64))
    x = ((width - w) * random.uniform(0, 1, _TRIALS)).astype(np.int64)
    y = ((height - h) * random.uniform(0, 1, _TRIALS)).astype(np.int64)
    fine = (w <= 2 * h) & (h <= 2 * w)
    windows: list[tuple[int, int, int, int]] = np.stack([x, y, w, h], axis=1)[fine].tolist()
    return windows


def _cut(image: np.ndarray, target: Target, window: tuple[int, int, int, int]) -> tuple[np.ndarray, Target]:
    """The part of the image in a window (x, y, width, height) inside it, and its truth."""
    x, y, w, h = window
    shift = np.array([x, y], dtype=np.float64)
    moved = move_target(target, (h, w), lambda points: points - shift, lambda bitmap: bitmap[y : y + h, x : x + w])
    return np.ascontiguousarray(image[y : y + h, x : x + w]), moved


def _shares(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """(W, N) which part of each box's area (N, 4 corners) lies in each window (W, 4; x, y, width, height)."""
    corners = np.concatenate([windows[:, :2], windows[:, :2] + windows[:, 2:]], axis=1)[:, None]
    low, high = np.maximum(boxes[:, :2], corners[..., :2]), np.minimum(boxes[:, 2:], corners[..., 2:])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    shares: np.ndarray = (high - low).clip(0).prod(axis=2) / np.maximum(area, 1e-9)
    return shares


def _probability(p: float) -> float:
    if not 0 <= p <= 1:
        raise VisionTasksError(f"data.augment: p is {p}, but must lie within 0 and 1")
    return p
