"""Pictures as a video's encoder wants them: RGB, all of one size, with even sides."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vision_tasks.errors import VisionTasksError


def even(picture: np.ndarray, smallest: int) -> np.ndarray:
    """Contiguous, with even sides of at least `smallest`: the last row and column are repeated."""
    height, width = picture.shape[:2]
    below, right = (max(side + side % 2, smallest) - side for side in (height, width))
    if below or right:
        return cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(picture)


def fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture (H, W, 3) as large as `size` (height, width) holds it in its own shape, in the middle, on black."""
    height, width = size
    scale = min(height / picture.shape[0], width / picture.shape[1])
    inner = max(1, round(picture.shape[0] * scale)), max(1, round(picture.shape[1] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = cv2.resize(picture, inner[::-1], interpolation=way)
    return canvas


def checked(path: Path, picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of a picture that is that, or (H, W) or (H, W, 1) grey.

    Raises:
        VisionTasksError: it is none of these, or empty. `path`, of the video, is for the message.
    """
    grey = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 1)
    if picture.dtype != np.uint8 or not (grey or (picture.ndim == 3 and picture.shape[2] == 3)) or picture.size == 0:
        raise VisionTasksError(
            f"{path}: a video's pictures are (height, width, 3) uint8 RGB, not {picture.shape} {picture.dtype}"
        )
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) if grey else picture
