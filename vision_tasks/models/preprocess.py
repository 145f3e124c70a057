"""From images as they are read to the batch a network takes. Part of the model, saved with it, the same everywhere."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Batch, Size, Target

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}


@dataclass(frozen=True)
class Preprocess:
    """Resize, normalise, pad.

    Attributes:
        min_size: length the shorter side is brought to. max_size: unless the longer side would pass this.
        mean, std: per channel, of images scaled to 0..1, in RGB order.
        stride: the canvas is padded at the right and the bottom to a multiple of this, with the mean colour (0 after
            normalising).
    """

    min_size: int = 800
    max_size: int = 1333
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    stride: int = 32

    def to_dict(self) -> dict[str, Any]:
        """Primitives for a checkpoint; `Preprocess(**d)` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """Inverse of `to_dict`; lists become tuples again."""
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)

    def network_size(self, size: Size, min_size: int | None = None) -> Size:
        """(height, width) an image of this size is resized to; sides are rounded down as in torchvision."""
        short, long = min(size), max(size)
        scale = min((min_size or self.min_size) / short, self.max_size / long)
        return max(1, math.floor(size[0] * scale)), max(1, math.floor(size[1] * scale))

    def __call__(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None, min_size: int | None = None
    ) -> Batch:
        """Make a batch on the images' own device.

        Args:
            images: (C, H, W) each, uint8, uint16, or float in 0..1; RGB. targets: their truths, in original pixels.
            min_size: instead of `self.min_size`, for multi-scale training.

        Returns:
            `Batch` with float32 images; target boxes and areas are in network pixels. Masks stay on their own grid
            (`Masks.size`).

        Raises:
            VisionTasksError: an image has another number of channels than the mean, no pixels, or another dtype.
        """
        original = [(int(i.shape[-2]), int(i.shape[-1])) for i in images]
        for image in images:
            # Other integers have no known full scale: 200 of an int64 image would be taken for 200 times white.
            known = image.dtype in _FULL_SCALE or image.is_floating_point()
            if image.ndim != 3 or image.shape[0] != len(self.mean) or 0 in image.shape or not known:
                raise VisionTasksError(
                    f"The model takes images as ({len(self.mean)}, H, W) tensors with at least one pixel, uint8, "
                    f"uint16 or float in 0..1, but got {tuple(image.shape)} {image.dtype}. Convert the image first."
                )
        sizes = [self.network_size(size, min_size) for size in original]
        height = math.ceil(max(s[0] for s in sizes) / self.stride) * self.stride
        width = math.ceil(max(s[1] for s in sizes) / self.stride) * self.stride
        canvas = torch.zeros((len(images), len(self.mean), height, width), device=images[0].device)
        for i, (image, (h, w)) in enumerate(zip(images, sizes, strict=True)):
            self._draw_into(canvas[i, :, :h, :w], image)
        scales = [(n[1] / o[1], n[0] / o[0]) for n, o in zip(sizes, original, strict=True)]
        moved = None
        if targets is not None:
            moved = [_scaled(t, s, size) for t, s, size in zip(targets, scales, sizes, strict=True)]
        return Batch(canvas, sizes, original, scales, [(0.0, 0.0)] * len(images), moved)

    def _draw_into(self, window: Tensor, image: Tensor) -> None:
        full = _FULL_SCALE.get(image.dtype, 1.0)
        pixels = image.float()
        if pixels.shape[-2:] != window.shape[-2:]:
            size = (window.shape[-2], window.shape[-1])
            pixels = F.interpolate(pixels[None], size=size, mode="bilinear", align_corners=False)[0]
        std = pixels.new_tensor(self.std)[:, None, None]
        mean = pixels.new_tensor(self.mean)[:, None, None]
        # One pass: (pixels / full - mean) / std.
        torch.addcmul(-mean / std, pixels, 1 / (full * std), out=window)


def _scaled(target: Target, scale: tuple[float, float], size: Size) -> Target:
    x, y = scale
    boxes = None if target.boxes is None else target.boxes * target.boxes.new_tensor((x, y, x, y))
    area = None if target.area is None else target.area * (x * y)
    return dataclasses.replace(target, size=size, boxes=boxes, area=area)
