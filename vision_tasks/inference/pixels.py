"""Images in any form as the tensors that models take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vision_tasks.data.images import read_image
from vision_tasks.errors import VisionTasksError

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
"""A path; a PIL image; an (H, W, 3) RGB, (H, W) grey or (H, W, C) array, uint8 or uint16; a (C, H, W) tensor, uint8,
uint16 or float in 0..1."""


def to_tensor(image: Any, channels: int = 3) -> Tensor:
    """Any `ImageLike` as a (C, H, W) tensor; files and PIL images are turned upright as viewers do.

    Args:
        channels: what the model takes. Grey is repeated for three channels, transparency is dropped; colours become
            grey for one. Other numbers are left as they are: there is no telling what they mean.

    Raises:
        VisionTasksError: an unreadable file, or a form that is none of these.
    """
    if isinstance(image, (str, Path)):
        _check_is_one_image(image)
        image = read_image(image, channels=channels)
    elif isinstance(image, Image.Image):
        image = _pil_pixels(ImageOps.exif_transpose(image), channels)
    if isinstance(image, np.ndarray):
        image = image.astype(image.dtype.newbyteorder("="), copy=False)
        if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or 0 in image.shape:
            raise VisionTasksError(
                f"An array must be (H, W, 3) RGB or (H, W) grey, uint8 or uint16, not {image.shape} {image.dtype}."
            )
        image = image[:, :, None] if image.ndim == 2 else image
        # torch warns of arrays that cannot be written.
        image = np.require(image, requirements=["C_CONTIGUOUS", "WRITEABLE"])
        tensor = torch.from_numpy(image).permute(2, 0, 1)
    elif isinstance(image, Tensor):
        tensor = image
    else:
        raise VisionTasksError(f"An image must be a path, PIL image, array or tensor, not a {type(image).__name__}.")
    if tensor.ndim != 3:
        raise VisionTasksError(f"A tensor must be (C, H, W), not {tuple(tensor.shape)}.")
    if tensor.is_floating_point():
        check_unit(tensor)
    return _with_channels(tensor, channels)


def _check_is_one_image(path: str | Path) -> None:
    """Raise `VisionTasksError` for what is rather a source of many."""
    from vision_tasks.inference.sources.files import VIDEO_ENDINGS

    address = isinstance(path, str) and "://" in path
    if address or Path(path).is_dir() or Path(path).suffix.lower() in (*VIDEO_ENDINGS, ".zip"):
        raise VisionTasksError(
            f"{path} is not one image. For folders, archives, videos and addresses use predictor.stream(...), which "
            "yields a frame and its prediction, one after another."
        )


def check_unit(image: Tensor) -> None:
    """Raise `VisionTasksError` for a tensor of floats that is not in 0..1."""
    low, high = (bound.item() for bound in image.aminmax()) if image.numel() else (0, 0)
    if not (low >= 0 and high <= 1):  # also if it is not a number
        raise VisionTasksError("A tensor of floats must be in 0..1. Divide it by 255, or give it as uint8.")


def _with_channels(image: Tensor, wanted: int) -> Tensor:
    given = len(image)
    if given == wanted:
        return image
    if wanted == 3:
        return image.expand(3, -1, -1) if given == 1 else image[:3] if given == 4 else image
    if wanted == 1 and given in (3, 4):
        # The weights of ITU-R 601 in 1/65536, as files are read: what Pillow's "L" has.
        red, green, blue = image[:3] if image.is_floating_point() else image[:3].to(torch.int64)
        grey: Tensor = 19595 * red + 38470 * green + 7471 * blue
        return (grey / 65536 if image.is_floating_point() else (grey + 0x8000 >> 16).to(image.dtype))[None]
    return image


def _pil_pixels(image: Image.Image, channels: int) -> np.ndarray:
    """(H, W, C) uint8 of most modes; deeper ones, which PIL would cut at 255, as (H, W), uint16 if they fit."""
    if image.mode[0] not in "IF":
        return np.array(image if channels == 4 and image.mode in ("RGBA", "CMYK") else image.convert("RGB"))
    values = np.array(image)
    if values.dtype.kind == "i" and values.size and values.min() >= 0 and values.max() <= 65535:
        return values.astype(np.uint16)
    return values
