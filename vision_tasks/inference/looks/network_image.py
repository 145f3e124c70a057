"""An image as a network sees it, a window at a time: a large image is never resized and normalised as a whole."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vision_tasks.models.preprocess import Preprocess
from vision_tasks.ops.semantic import sample, taps
from vision_tasks.structures import Size


class NetworkImage:
    """The canvas that `Preprocess` would make of one image, in windows.

    Attributes:
        canvas: (height, width) in network pixels, padding included.
        scale, offset: (x, y) each; network pixels = original pixels · scale + offset.

    Args:
        image: (C, H, W) as `Preprocess` takes them, on the device to work on.
        preprocess: of the model. size: (height, width) to resize the image to.
        mirrored: look at the image flipped left to right. `scale` and `offset` are then those of the flipped image.
        stride: windows will lie on multiples of this: the canvas is padded to one.
        whole: make the canvas at once, as it is made where there are no windows. Images that are enlarged or shrunk
            with smoothing, or put in the middle of the canvas, are made at once anyway.
    """

    def __init__(
        self, image: Tensor, preprocess: Preprocess, size: Size, mirrored: bool, stride: int, whole: bool
    ) -> None:
        self._image, self._preprocess, self._size, self._mirrored = image, preprocess, size, mirrored
        height, width = image.shape[-2:]
        self.scale = (size[1] / width, size[0] / height)
        self.offset = (0.0, 0.0)
        resized = (height, width) != size
        smooth = preprocess.interpolation != "bilinear" or preprocess.antialias
        padded = preprocess.place != "corner" or preprocess.resize == "letterbox"
        self._made: Tensor | None = None
        if whole or padded or (resized and smooth):
            own = size == preprocess.network_size((height, width))  # then by its own rule: a letterbox keeps its frame
            batch = preprocess([self._part(0, height, 0, width)], size=None if own else size)
            self._made, self.offset = batch.images[0], batch.offsets[0]
            self.canvas: Size = (batch.images.shape[-2], batch.images.shape[-1])
        else:
            self.canvas = size
        self.canvas = (_round_up(self.canvas[0], stride), _round_up(self.canvas[1], stride))
        if not resized:
            self._rows = self._columns = None
        else:
            self._rows = taps(size[0], 1, 0, height, size[0])
            self._columns = taps(size[1], 1, 0, width, size[1])

    def window(self, top: int, left: int, size: Size) -> Tensor:
        """(C, h, w) float32, normalised: `size` network pixels from this corner on, within the canvas."""
        bottom, right = top + size[0], left + size[1]
        if self._made is not None:
            pixels = self._made[:, top:bottom, left:right]
        else:
            part = self._resized(top, min(bottom, self._size[0]), left, min(right, self._size[1]))
            pixels = self._preprocess([part], size=(part.shape[-2], part.shape[-1])).images[0]
            pixels = pixels[:, : size[0], : size[1]]
        if pixels.shape[-2:] == size:
            return pixels
        padding = pixels.new_zeros((len(pixels), 1, 1))
        if self._preprocess.pad_value is not None:
            padding = self._preprocess.normalise(padding + self._preprocess.pad_value)
        out = padding.expand(-1, *size).clone()
        out[:, : pixels.shape[-2], : pixels.shape[-1]] = pixels
        return out

    def _part(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Original pixels of the image or of its mirror image."""
        if not self._mirrored:
            return self._image[:, top:bottom, left:right]
        width = self._image.shape[-1]
        return mirrored(self._image[:, top:bottom, width - right : width - left])

    def _resized(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Network pixels, not normalised: of the image's own type, or float in 0..1 if it is resized."""
        if self._rows is None or self._columns is None:
            return self._part(top, bottom, left, right)
        rows, first_row, last_row = self._rows.part(top, bottom)
        columns, first_column, last_column = self._columns.part(left, right)
        part = self._part(first_row, last_row, first_column, last_column)
        full = 1 if part.is_floating_point() else torch.iinfo(part.dtype).max
        return sample(part.to(torch.float32), rows.to(part.device), columns.to(part.device)) / full


def _round_up(length: int, step: int) -> int:
    return math.ceil(length / step) * step


def mirrored(image: Tensor) -> Tensor:
    """Left to right. torch before 2.9 has no flip of uint16 on the CPU; as int16 the bits are the same."""
    if image.dtype == torch.uint16:
        return image.view(torch.int16).flip(-1).view(torch.uint16)
    return image.flip(-1)
