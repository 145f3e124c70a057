"""SSD's own augmentations, which Albumentations does not have: crops by overlap, and zooming out.

Liu et al., "SSD: Single Shot MultiBox Detector" (2016), sections 2.2 and 3.6; numbers as in torchvision's reference.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.random import Generator

from vision_tasks.data.geometry import keep_rows, move_target
from vision_tasks.errors import VisionTasksError
from vision_tasks.ops.boxes import pairwise_iou
from vision_tasks.structures import Size, Target

_TRIALS = 40
_OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)

# The mean colour of ImageNet, of 255.
_FILL = (123, 117, 104)


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
                    shift = np.array([x, y], dtype=np.float64)
                    moved = move_target(
                        keep_rows(target, inside),
                        (h, w),
                        lambda points: points - shift,  # noqa: B023  # used at once
                        lambda bitmap: bitmap[y : y + h, x : x + w],  # noqa: B023
                    )
                    return np.ascontiguousarray(image[y : y + h, x : x + w]), moved
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
            raise VisionTasksError(f"transforms: ZoomOut: side is {side}, but must lie within 1 and 100")

    def __call__(self, image: np.ndarray, target: Target, random: Generator) -> tuple[np.ndarray, Target]:
        """The smaller image with its truth, of the same size as before."""
        if random.random() >= self.p:
            return image, target
        factor = random.uniform(1, self.side)
        height, width = image.shape[:2]
        h, w = max(1, round(height / factor)), max(1, round(width / factor))
        y, x = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
        canvas = np.empty_like(image)
        canvas[:] = np.resize(_FILL, image.shape[2]) * (np.iinfo(image.dtype).max // 255)
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


OWN: dict[str, type[IoUCrop | ZoomOut]] = {"IoUCrop": IoUCrop, "ZoomOut": ZoomOut}
"""Beside Albumentations' names, these may be used in a configuration."""


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


def _probability(p: float) -> float:
    if not 0 <= p <= 1:
        raise VisionTasksError(f"transforms: p is {p}, but must lie within 0 and 1")
    return p
