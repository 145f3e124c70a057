"""Run a model on images: whatever form they come in, predictions in their own pixels come out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vision_tasks.data.images import read_image
from vision_tasks.errors import VisionTasksError
from vision_tasks.models.checkpoint import load
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Prediction

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
"""A path; a PIL image; an (H, W, 3) RGB or (H, W) grey array, uint8 or uint16; a (C, H, W) tensor, uint8, uint16 or
float in 0..1."""

SPEEDS = ("exact",)


class Predictor:
    """A model ready to be asked.

    Images are predicted one at a time unless `batch_size` says otherwise: images of a batch are padded to one canvas,
    so batch-mates change a prediction slightly.

    Args:
        model: a model, or the path of a checkpoint.
        device: "auto" (CUDA, else MPS, else CPU) or a torch device.
        threshold: predictions with lower scores are left out, 0..1. 0 keeps all that the model gives.
        speed: "exact": the numbers of the eager float32 model.
        batch_size: images per forward pass when a list is given.
    """

    def __init__(
        self,
        model: VisionModel | str | Path,
        device: str | torch.device = "auto",
        threshold: float = 0.5,
        speed: str = "exact",
        batch_size: int = 1,
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
            waiting.append(to_tensor(image))
            if len(waiting) == self.batch_size:
                yield from self.predict(waiting)
                waiting = []
        if waiting:
            yield from self.predict(waiting)

    def predict(self, images: Sequence[Tensor]) -> list[Prediction]:
        """Predictions of (C, H, W) tensors as one batch, above the threshold, on the CPU."""
        with torch.inference_mode():
            batch = self.model.preprocess([image.to(self.device) for image in images])
            predictions = self.model.predict(batch)
        return [p.filter(self.threshold).to("cpu") for p in predictions]


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


def to_tensor(image: Any) -> Tensor:
    """Any `ImageLike` as a (3, H, W) tensor; files and PIL images are turned upright as viewers do.

    Raises:
        VisionTasksError: an unreadable file, or a form that is none of these.
    """
    if isinstance(image, (str, Path)):
        image = read_image(image)
    elif isinstance(image, Image.Image):
        image = _pil_pixels(ImageOps.exif_transpose(image))
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
    if tensor.shape[0] == 1:
        tensor = tensor.expand(3, -1, -1)
    return tensor[:3] if tensor.shape[0] == 4 else tensor


def _pil_pixels(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of most modes; deeper ones, which PIL would cut at 255, as (H, W), uint16 if they fit."""
    if image.mode[0] not in "IF":
        return np.array(image.convert("RGB"))
    values = np.array(image)
    if values.dtype.kind == "i" and values.size and values.min() >= 0 and values.max() <= 65535:
        return values.astype(np.uint16)
    return values
