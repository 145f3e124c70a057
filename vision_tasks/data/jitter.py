"""Large-scale jitter: an image shrunk and padded, or enlarged and cropped, by a factor from a wide range.

Ghiasi et al. (2021), section 3; their ranges.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from vision_tasks.data.canvas import filled
from vision_tasks.data.geometry import move_target
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Size, Target


class LargeScaleJitter:
    """The image brought into `size` as a letterbox would, times a random factor; cropped or padded to `size`.

    The place of the crop, or of the image on the canvas, is random. Pixels are averaged where the image shrinks. Of an
    enlarged image only the part that is seen is resized.

    Args:
        size: (height, width) of the result, or one side for both; None keeps the image's own size, which is enough for
            models that resize images anyway.
        scale: smallest and largest factor. p: how often.

    Raises:
        VisionTasksError: an argument that cannot be.
    """

    def __init__(
        self,
        size: int | tuple[int, int] | list[int] | None = None,
        scale: tuple[float, float] | list[float] = (0.1, 2.0),
        p: float = 1.0,
    ) -> None:
        sides: tuple[int, ...] = ()
        if size is not None:
            sides = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
        if len(sides) not in (0, 2) or not all(type(s) is int and 1 <= s <= 16384 for s in sides):
            raise VisionTasksError(f"data.augment: LargeScaleJitter: size is {size}, not pixels, nor [height, width]")
        if len(scale) != 2 or not 0.01 <= scale[0] <= scale[1] <= 100:
            raise VisionTasksError(
                f"data.augment: LargeScaleJitter: scale is {scale}, but must be [smallest, largest] within 0.01 and 100"
            )
        if not 0 <= p <= 1:
            raise VisionTasksError(f"data.augment: LargeScaleJitter: p is {p}, but must lie within 0 and 1")
        self.size: Size | None = (sides[0], sides[1]) if sides else None
        self.scale, self.p = (float(scale[0]), float(scale[1])), p

    def __call__(self, image: np.ndarray, target: Target, random: Generator) -> tuple[np.ndarray, Target]:
        """The image of the fixed size with its truth; `image` is not modified."""
        if random.random() >= self.p:
            return image, target
        own = (image.shape[0], image.shape[1])
        size = self.size or own
        ratio = random.uniform(*self.scale) * min(size[0] / own[0], size[1] / own[1])
        (y, seen_y, top, h), (x, seen_x, left, w) = (_axis(own[i], size[i], ratio, random) for i in (0, 1))
        part = image[y : y + seen_y, x : x + seen_x]
        canvas = filled(size, image)
        way = cv2.INTER_AREA if h < seen_y else cv2.INTER_LINEAR
        # OpenCV takes four channels at most where it averages areas.
        for i in range(0, image.shape[2], 4):
            resized = cv2.resize(part[..., i : i + 4], (w, h), interpolation=way)
            canvas[top : top + h, left : left + w, i : i + 4] = resized.reshape(h, w, -1)
        factor = np.array([w / seen_x, h / seen_y])
        shift = np.array([left - x * factor[0], top - y * factor[1]])

        def bitmap(given: np.ndarray) -> np.ndarray:
            out = np.zeros(size, dtype=given.dtype)
            seen = given[y : y + seen_y, x : x + seen_x]
            out[top : top + h, left : left + w] = cv2.resize(seen, (w, h), interpolation=cv2.INTER_NEAREST_EXACT)
            return out

        return canvas, move_target(target, size, lambda points: points * factor + shift, bitmap)


def _axis(own: int, size: int, ratio: float, random: Generator) -> tuple[int, int, int, int]:
    """Of one axis: start and length of the part that is seen, in the image; start and length of where it goes.

    Lengths are whole pixels, which changes the scale by less than a pixel over the part.
    """
    length = max(1, round(own * ratio))
    if length <= size:
        return 0, own, int(random.integers(size - length + 1)), length
    seen = min(own, max(1, round(size / ratio)))
    return int(random.integers(own - seen + 1)), seen, 0, size
