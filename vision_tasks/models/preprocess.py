"""From images as they are read to the batch a network takes. Part of the model, saved with it, the same everywhere."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vision_tasks.errors import VisionTasksError
from vision_tasks.ops.semantic import Taps, sample, taps
from vision_tasks.structures import Batch, Size, Target

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_LARGE = 1 << 25  # values of an image that is not to be copied as a whole
_FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}


@dataclass(frozen=True)
class Preprocess:
    """Resize, normalise, pad.

    Attributes:
        resize: "shortest": the shorter side becomes `min_size`, unless the longer one would pass `max_size`;
            "stretch": to `size`, whatever the shape was; "letterbox": as large as fits into `size`, the rest padded;
            "none": as it is.
        min_size, max_size: pixels, for "shortest". size: (height, width), for "stretch" and "letterbox".
        mean, std: per channel, of images scaled to 0..1, in the order the network takes them; their number is that of
            the channels an image must have. By default three, ImageNet's. A network that wants 0..255 has a mean of 0
            and a std of 1 / 255.
        stride: the canvas is padded to a multiple of this.
        channel_order: of the network; images of three channels always come as RGB, others are taken as they come.
        pad_value: in 0..1 before normalising; None is the mean colour, which is 0 after it.
        place: of a letterboxed image on its canvas: "corner" (top left) or "center".
        interpolation: "bilinear" or "bicubic". antialias: smooth before shrinking.
    """

    min_size: int = 800
    max_size: int = 1333
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    stride: int = 32
    resize: Literal["shortest", "stretch", "letterbox", "none"] = "shortest"
    size: Size | None = None
    channel_order: Literal["rgb", "bgr"] = "rgb"
    pad_value: float | None = None
    place: Literal["corner", "center"] = "corner"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = False

    def __post_init__(self) -> None:
        if self.resize not in ("shortest", "stretch", "letterbox", "none"):
            raise ValueError(f"resize must be shortest, stretch, letterbox or none, not {self.resize!r}")
        if self.resize == "shortest" and min(self.min_size, self.max_size) < 1:
            raise ValueError(f"min_size and max_size must be at least 1 pixel, not {self.min_size}, {self.max_size}")
        if self.resize == "shortest" and self.max_size < self.min_size:
            raise ValueError(f"max_size must be at least min_size, {self.min_size}, not {self.max_size}")
        if self.resize in ("stretch", "letterbox") and (self.size is None or min(self.size) < 1):
            raise ValueError(f"resize={self.resize!r} needs size=(height, width) in pixels, not {self.size}")
        if len(self.mean) != len(self.std) or not self.mean or min(self.std) <= 0:
            raise ValueError(
                f"mean and std need one value per channel, and std positive ones, not {self.mean}, {self.std}"
            )
        if self.channel_order == "bgr" and len(self.mean) != 3:
            raise ValueError(f"channel_order='bgr' is for three channels, but mean has {len(self.mean)}")

    def to_dict(self) -> dict[str, Any]:
        """Primitives for a checkpoint; `Preprocess.from_dict` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """Inverse of `to_dict`; lists become tuples again."""
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)

    def network_size(self, size: Size, min_size: int | None = None) -> Size:
        """(height, width) an image of this size is resized to; sides are rounded down, as peers do.

        min_size: overrides the shorter side, of the image or, for "stretch" and "letterbox", of `size`.
        """
        height, width = size
        if self.resize == "none":
            return size
        if self.resize == "shortest":
            scale = min((min_size or self.min_size) / min(size), self.max_size / max(size))
        else:
            canvas = self._canvas_size(min_size)
            if self.resize == "stretch":
                return canvas
            scale = min(canvas[0] / height, canvas[1] / width)
        return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))

    def _canvas_size(self, min_size: int | None) -> Size:
        """`size`, or the same shape with another shorter side, in whole strides."""
        assert self.size is not None
        if min_size is None:
            return self.size
        scale = min_size / min(self.size)
        height, width = (max(1, round(side * scale / self.stride)) * self.stride for side in self.size)
        return height, width

    def __call__(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Target] | None = None,
        min_size: int | None = None,
        size: Size | None = None,
    ) -> Batch:
        """Make a batch on the images' own device.

        Args:
            images: (C, H, W) each, uint8, uint16, or float in 0..1; three channels are RGB.
            targets: their truths, in original pixels.
            min_size: the shorter side for this batch, for multi-scale training (see `network_size`).
            size: (height, width) that every image of this batch is stretched to, whatever the rule (crops).

        Returns:
            `Batch` with float32 images; target boxes, areas and semantic maps (of `image_sizes`, without the padding)
            are in network pixels. Masks stay on their own grid (`Masks.size`).

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
        sizes = [size or self.network_size(own, min_size) for own in original]
        full = self._canvas_size(min_size) if self.resize == "letterbox" and size is None else (1, 1)
        height, width = (math.ceil(max(full[i], *(s[i] for s in sizes)) / self.stride) * self.stride for i in (0, 1))
        canvas = torch.zeros((len(images), len(self.mean), height, width), device=images[0].device)
        if self.pad_value is not None:
            canvas += self.normalise(canvas.new_full((len(self.mean), 1, 1), self.pad_value))
        offsets: list[tuple[float, float]] = [(0.0, 0.0)] * len(images)
        if self.place == "center":
            offsets = [((width - w) // 2, (height - h) // 2) for h, w in sizes]
        for i, (image, (h, w), (x, y)) in enumerate(zip(images, sizes, offsets, strict=True)):
            self._draw_into(canvas[i, :, int(y) : int(y) + h, int(x) : int(x) + w], image)
        scales = [(n[1] / o[1], n[0] / o[0]) for n, o in zip(sizes, original, strict=True)]
        moved = None
        if targets is not None:
            moved = [_moved(*parts) for parts in zip(targets, scales, offsets, sizes, strict=True)]
        return Batch(canvas, sizes, original, scales, offsets, moved)

    def normalise(self, pixels: Tensor, full: float = 1.0) -> Tensor:
        """(..., C, H, W) float pixels in 0..full, in the network's channel order, to what the network takes."""
        std = pixels.new_tensor(self.std)[:, None, None]
        mean = pixels.new_tensor(self.mean)[:, None, None]
        # One pass: (pixels / full - mean) / std.
        return torch.addcmul(-mean / std, pixels, 1 / (full * std))

    def _draw_into(self, window: Tensor, image: Tensor) -> None:
        full = _FULL_SCALE.get(image.dtype, 1.0)
        if image.numel() > _LARGE and image.shape[-2:] != window.shape[-2:]:
            self._draw_large(window, image, full)
            return
        pixels = image.float()
        if self.channel_order == "bgr":
            pixels = pixels.flip(0)
        if pixels.shape[-2:] != window.shape[-2:]:
            size = (window.shape[-2], window.shape[-1])
            pixels = F.interpolate(
                pixels[None], size=size, mode=self.interpolation, align_corners=False, antialias=self.antialias
            )[0]
        window.copy_(self.normalise(pixels, full))

    def _draw_large(self, window: Tensor, image: Tensor, full: float) -> None:
        """The same without a copy of it all: of an image of 8,000×6,000 pixels float32 takes 600 MB."""
        size: Size = (window.shape[-2], window.shape[-1])
        plain = self.interpolation == "bilinear" and not self.antialias and image.dtype == torch.uint8
        if plain and 2 * size[0] <= image.shape[-2]:
            small = _sampled_linearly(image, size)
        else:
            options: dict[str, Any] = {"mode": self.interpolation, "align_corners": False, "antialias": self.antialias}
            parts = [F.interpolate(image[None, c : c + 1].float(), size=size, **options)[0] for c in range(len(image))]
            small = torch.cat(parts)
        window.copy_(self.normalise(small.flip(0) if self.channel_order == "bgr" else small, full))


def _sampled_linearly(image: Tensor, size: Size) -> Tensor:
    """(C, H, W) shrunk as `interpolate` does it, to a thousandth of a pixel, reading only the rows that it needs."""
    rows, columns = (taps(new, 1, 0, old, new) for new, old in zip(size, image.shape[-2:], strict=True))
    near = image[:, torch.cat((rows.low, rows.high)).to(image.device)]
    place = torch.arange(size[0])
    return sample(near, Taps(place, place + size[0], rows.weight).to(image.device), columns.to(image.device))


def _moved(target: Target, scale: tuple[float, float], offset: tuple[float, float], size: Size) -> Target:
    """Boxes and areas in pixels of the canvas; the semantic map in those of the resized image."""
    x, y = scale
    boxes = None
    if target.boxes is not None:
        boxes = target.boxes * target.boxes.new_tensor((x, y, x, y)) + target.boxes.new_tensor(offset * 2)
    area = None if target.area is None else target.area * (x * y)
    semantic = None if target.semantic is None else _sampled(target.semantic, size)
    return dataclasses.replace(target, size=size, boxes=boxes, area=area, semantic=semantic)


def _sampled(labels: Tensor, size: Size) -> Tensor:
    """(..., H, W) at the centres of the cells of a grid of (height, width): nearest, as the image is resized.

    Where a centre lies on the border of two pixels, the lower or right one is taken.
    """
    if labels.shape[-2:] == size:
        return labels
    # In integers: PyTorch's "nearest-exact" rounds in float32, and takes no int16 on some devices.
    rows, columns = (
        (2 * torch.arange(new, device=labels.device) + 1) * old // (2 * new)
        for old, new in zip(labels.shape[-2:], size, strict=True)
    )
    return labels.index_select(-2, rows).index_select(-1, columns)
