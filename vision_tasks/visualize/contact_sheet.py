"""Many pictures as one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_tasks.visualize.drawing import Picture, to_rgb8


def contact_sheet(images: Sequence[NDArray], columns: int | None = None, cell: int = 320, gap: int = 6) -> Picture:
    """A grid of images, each fitted into a square with its shape kept; rows are as high as their highest.

    Args:
        images: arrays as `draw` takes and gives them. columns: default a grid about as wide as high.
        cell: side of a cell in pixels. gap: white pixels between cells.

    Returns:
        (H, W, 3) uint8 RGB; a single white pixel for no images.
    """
    if not images:
        return np.full((1, 1, 3), 255, np.uint8)
    columns = columns or math.ceil(math.sqrt(len(images)))
    fitted = [_fitted(to_rgb8(image), cell) for image in images]
    rows = [fitted[i : i + columns] for i in range(0, len(fitted), columns)]
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    sheet = np.full((sum(heights) + gap * (len(rows) - 1), columns * (cell + gap) - gap, 3), 255, np.uint8)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            y = top + (height - picture.shape[0]) // 2
            x = column * (cell + gap) + (cell - picture.shape[1]) // 2
            sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
        top += height + gap
    return sheet


def _fitted(picture: Picture, cell: int) -> Picture:
    scale = cell / max(picture.shape[:2])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=way), np.uint8)
