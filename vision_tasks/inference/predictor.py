"""Run a model on images: whatever form they come in, predictions in their own pixels come out."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vision_tasks.data.images import read_image
from vision_tasks.errors import VisionTasksError
from vision_tasks.heads.semantic import SemanticHead
from vision_tasks.inference.semantic import Looks, predict_map, tile_stride
from vision_tasks.inference.sliding import Tiling
from vision_tasks.models.checkpoint import load
from vision_tasks.models.vision_model import VisionModel, with_panoptic
from vision_tasks.structures import Prediction, Size

log = logging.getLogger("vision_tasks")

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
"""A path; a PIL image; an (H, W, 3) RGB, (H, W) grey or (H, W, C) array, uint8 or uint16; a (C, H, W) tensor, uint8,
uint16 or float in 0..1."""

SPEEDS = ("exact",)


class Predictor:
    """A model ready to be asked.

    Images are predicted one at a time unless `batch_size` says otherwise: images of a batch are padded to one canvas,
    so batch-mates change a prediction slightly.

    Args:
        model: a model, or the path of a checkpoint.
        device: "auto" (CUDA, else MPS, else CPU) or a torch device.
        threshold: objects with lower scores are left out, 0..1. 0 keeps all that the model gives. Maps are as the model
            decides them.
        speed: "exact": the numbers of the eager float32 model.
        batch_size: images per forward pass when a list is given; tiles per forward pass of a large image.
        tile: semantic maps of images that are larger, once resized as the model wants them, are put together from
            square tiles of so many pixels, or of (height, width). Memory then holds a row of tiles, whatever the image.
            These are network pixels: of an image that the model shrinks to less than a tile, tiles change nothing,
            which is said once.
        overlap: pixels that neighbouring tiles share; a quarter of the tile if not given. Its outer quarters are
            context that is thrown away, what lies between is cross-faded.
        flip: semantic maps are the mean of those of the image and of its mirror image.
        scales: semantic maps are the mean of those at these multiples of the model's own image size.

    Raises:
        VisionTasksError: a value out of range, a device that is not there, a checkpoint that cannot be read, or one of
            the last four for a model that makes no semantic maps.
    """

    def __init__(
        self,
        model: VisionModel | str | Path,
        device: str | torch.device = "auto",
        threshold: float = 0.5,
        speed: str = "exact",
        batch_size: int = 1,
        tile: int | Size | None = None,
        overlap: int | None = None,
        flip: bool = False,
        scales: Sequence[float] = (),
    ) -> None:
        if speed not in SPEEDS:
            raise VisionTasksError(f"speed must be one of {', '.join(SPEEDS)}, not {speed!r}.")
        if not 0 <= threshold <= 1:
            raise VisionTasksError(f"threshold must be in 0..1, not {threshold}.")
        if batch_size < 1:
            raise VisionTasksError(f"batch_size must be at least 1, not {batch_size}.")
        self.device = choose_device(device)
        self.model = (model if isinstance(model, VisionModel) else load(model)).eval().to(self.device)
        self.threshold = threshold
        self.batch_size = batch_size
        if overlap is not None and tile is None:
            raise VisionTasksError("overlap is that of tiles: give tile=1024, say, as well.")
        if any(not 0 < scale <= 16 for scale in scales):
            raise VisionTasksError(f"scales must be factors above 0 and up to 16, not {tuple(scales)}.")
        tiling = None if tile is None else Tiling.of(tile, overlap)
        self.looks = Looks(flip, tuple(scales), tiling, batch_size)
        head = self.model.head_of("semantic")
        self._head = head if isinstance(head, SemanticHead) else None
        self._told_of_tiles = False
        if self.looks != Looks(batch_size=batch_size):
            self._check_looks(tiling)

    def _check_looks(self, tiling: Tiling | None) -> None:
        if self._head is None:
            raise VisionTasksError(
                "tile, overlap, flip and scales are for semantic maps, and this model makes none: it finds objects. "
                "Leave them out."
            )
        if tiling is not None:
            tiling.check_stride(tile_stride(self.model.preprocess))

    @overload
    def __call__(self, source: ImageLike) -> Prediction: ...
    @overload
    def __call__(self, source: list[ImageLike] | tuple[ImageLike, ...]) -> list[Prediction]: ...
    def __call__(self, source: ImageLike | list[ImageLike] | tuple[ImageLike, ...]) -> Prediction | list[Prediction]:
        """One image gives a prediction, a list of images a list. Predictions are on the CPU.

        Raises:
            VisionTasksError: an image cannot be read, or has an unknown form.
        """
        if isinstance(source, (list, tuple)):
            return list(self.stream(source))
        return next(self.stream([source]))

    def stream(self, images: Sequence[ImageLike] | Iterator[ImageLike]) -> Iterator[Prediction]:
        """Predictions of images, one after another, holding no more than a batch of them."""
        waiting: list[Tensor] = []
        for image in images:
            waiting.append(to_tensor(image, len(self.model.preprocess.mean)))
            if len(waiting) == self.batch_size:
                yield from self.predict(waiting)
                waiting = []
        if waiting:
            yield from self.predict(waiting)

    def predict(self, images: Sequence[Tensor]) -> list[Prediction]:
        """Predictions of (C, H, W) tensors as one batch, objects above the threshold, on the CPU.

        Of an image that is looked at more than once, or in tiles, the map is made by itself.
        """
        with torch.inference_mode():
            here = [image.to(self.device) for image in images]
            sizes = [self.model.preprocess.network_size((image.shape[-2], image.shape[-1])) for image in here]
            for image, size in zip(here, sizes, strict=True):
                self._tell_tiles((image.shape[-2], image.shape[-1]), size)
            if all(self.looks.plain_at(size) for size in sizes):
                predictions = self.model.predict(self.model.preprocess(here))
            else:
                predictions = [self._looked_at(image) for image in here]
        return [p.filter(self.threshold).to("cpu") for p in predictions]

    def _tell_tiles(self, size: Size, seen: Size) -> None:
        """Says, once, that an image larger than a tile, (height, width), is shrunk before it could be cut into any."""
        if self._told_of_tiles or self.looks.tiling is None:
            return
        tile, largest = self.looks.tiling.tile, max(self.looks.factors)
        fits = all(round(side * largest) <= limit for side, limit in zip(seen, tile, strict=True))
        if not fits or all(side <= limit for side, limit in zip(size, tile, strict=True)):
            return
        self._told_of_tiles = True
        factor = min(16.0, max(side / small for side, small in zip(size, seen, strict=True)))
        log.warning(
            "The model sees this %d×%d image at %d×%d, which fits into one tile of %d×%d network pixels: tiles "
            "change nothing. For the full resolution use scales=(%.3g,) (--scales %.3g), or a model trained with "
            "min_size=null.",
            size[1], size[0], round(seen[1] * largest), round(seen[0] * largest), tile[1], tile[0], factor, factor,
        )  # fmt: skip

    def _looked_at(self, image: Tensor) -> Prediction:
        """Objects from one look at the whole image, the map from all looks."""
        assert self._head is not None
        categories = self._head.categories
        if self.model.head_of("objects") is None:
            found = Prediction((image.shape[-2], image.shape[-1]), categories, semantic_categories=categories)
        else:
            (found,) = self.model.predict(self.model.preprocess([image]))
        found = dataclasses.replace(found, semantic=predict_map(self.model, self._head, image, self.looks))
        return found if self.model.panoptic is None else with_panoptic(found, self.model.panoptic)


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """ "auto" is CUDA where there is one, else MPS, else the CPU.

    Raises:
        VisionTasksError: no such device here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise VisionTasksError(f"The device {device!r} cannot be used here ({reason}). Try device='auto'.") from error
    return chosen


def to_tensor(image: Any, channels: int = 3) -> Tensor:
    """Any `ImageLike` as a (C, H, W) tensor; files and PIL images are turned upright as viewers do.

    Args:
        channels: what the model takes. Grey is repeated for three channels, transparency is dropped; colours become
            grey for one. Other numbers are left as they are: there is no telling what they mean.

    Raises:
        VisionTasksError: an unreadable file, or a form that is none of these.
    """
    if isinstance(image, (str, Path)):
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
    return _with_channels(tensor, channels)


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
