"""What training sees, drawn beside the untouched image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_tasks.structures import Categories, Size, Target
from vision_tasks.visualize.drawing import Picture, draw, to_rgb8

_WHITE = 255


def draw_pair(
    before: tuple[NDArray, Target],
    after: tuple[NDArray, Target],
    network: Size | None = None,
    categories: Categories | None = None,
    semantic_categories: Categories | None = None,
    height: int = 480,
) -> Picture:
    """An image as it is in the file at the left, and as the network gets it at the right, with what is known of each.

    Args:
        before, after: image (H, W, C) and its truth, from the file and after augmentation.
        network: (height, width) that the model's preprocess then resizes the image to; the right picture has that
            shape, so that stretching is seen.
        height: of the picture, in pixels.

    Returns:
        (height, W, 3) uint8 RGB.
    """
    both = []
    for (image, target), shape in ((before, None), (after, network)):
        picture = to_rgb8(image)
        tall, wide = shape or picture.shape[:2]
        size = (height, max(1, round(height * wide / tall)))
        both.append(_drawn(picture, target, size, categories, semantic_categories))
    gap = np.full((height, 8, 3), _WHITE, np.uint8)
    return np.concatenate([both[0], gap, both[1]], axis=1)


def _drawn(
    picture: Picture, target: Target, size: Size, categories: Categories | None, semantic: Categories | None
) -> Picture:
    """Drawn at its own size or enlarged by a whole number, then fitted into (height, width)."""
    zoom = max(1, size[0] // picture.shape[0])
    drawn = draw(picture, target, categories, zoom=zoom, legend=False, semantic_categories=semantic)
    way = cv2.INTER_AREA if drawn.shape[0] > size[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(drawn, size[::-1], interpolation=way), np.uint8)


def count_words(target: Target) -> str:
    """How many objects a truth has, for a caption: "3 objects, 1 crowd"; "no boxes" if nobody looked."""
    if target.boxes is None:
        return "no boxes"
    crowds = 0 if target.is_crowd is None else int(target.is_crowd.sum())
    objects = len(target.boxes) - crowds
    return f"{objects} object{'' if objects == 1 else 's'}" + (f" and {crowds} crowd" if crowds else "")


def size_words(size: Sequence[int]) -> str:
    """(height, width) as width×height, which people read."""
    return f"{size[1]}×{size[0]}"
