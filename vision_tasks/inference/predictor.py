"""Run a model on images and video: whatever form they come in, predictions in their own pixels come out."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor

from vision_tasks.errors import VisionTasksError
from vision_tasks.heads.semantic import SemanticHead
from vision_tasks.inference.batching import Batching, choose_device
from vision_tasks.inference.fast import prepare
from vision_tasks.inference.pixels import ImageLike, to_tensor
from vision_tasks.inference.semantic import Looks, predict_map, tile_stride
from vision_tasks.inference.sliding import Tiling
from vision_tasks.models.checkpoint import load
from vision_tasks.models.vision_model import VisionModel, with_panoptic
from vision_tasks.structures import Batch, Prediction, Size

if TYPE_CHECKING:
    from vision_tasks.inference.frames import Frame
    from vision_tasks.inference.tracking.base import Tracker

log = logging.getLogger("vision_tasks")


class Predictor:
    """A model ready to be asked.

    Images are predicted one at a time unless `batch_size` says otherwise: images of a batch are padded to one canvas,
    so batch-mates change a prediction slightly.

    Args:
        model: a model, of which a copy is made and which may go on training, or the path of a checkpoint.
        device: "auto" (CUDA, else MPS, else CPU) or a torch device.
        threshold: objects with lower scores are left out, 0..1. 0 keeps all that the model gives. Maps are as the model
            decides them.
        speed: "exact": the numbers of the eager float32 model. "fast": bfloat16 where the processor computes it.
            "max": compiled, too; the first images take minutes. What they cost is in docs/speed.md.
        batch_size: images per forward pass when there are several; tiles per forward pass of a large image. "auto": as
            many as the memory of a GPU holds; one on a CPU. Where memory does not suffice it is halved.
        tile: semantic maps of images that are larger, once resized as the model wants them, are put together from
            square tiles of so many pixels, or of (height, width). Memory then holds a row of tiles, whatever the image.
            These are network pixels: of an image that the model shrinks to less than a tile, tiles change nothing,
            which is said once.
        overlap: pixels that neighbouring tiles share; a quarter of the tile if not given. Its outer quarters are
            context that is thrown away, what lies between is cross-faded.
        flip: semantic maps are the mean of those of the image and of its mirror image.
        scales: semantic maps are the mean of those at these multiples of the model's own image size.
        embed: predictions say what each object looks like (`Prediction.embeddings`), for trackers.

    Attributes:
        model: as it was given or read. speed, threshold, batching, device: as above.

    Raises:
        VisionTasksError: a value out of range, a device that is not there, a checkpoint that cannot be read, or one of
            tile, overlap, flip and scales for a model that makes no semantic maps.
    """

    def __init__(
        self,
        model: VisionModel | str | Path,
        device: str | torch.device = "auto",
        threshold: float = 0.5,
        speed: str = "exact",
        batch_size: int | Literal["auto"] = 1,
        tile: int | Size | None = None,
        overlap: int | None = None,
        flip: bool = False,
        scales: Sequence[float] = (),
        embed: bool = False,
    ) -> None:
        _check_threshold(threshold)
        self.device = choose_device(device)
        self.batching = Batching(batch_size, self.device)
        given = model if isinstance(model, VisionModel) else load(model)
        self.model = given
        self._ready = prepare(given, speed, self.device)
        self.speed = speed
        self.threshold = threshold
        self.embed = embed
        if overlap is not None and tile is None:
            raise VisionTasksError("overlap is that of tiles: give tile=1024, say, as well.")
        if any(not 0 < scale <= 16 for scale in scales):
            raise VisionTasksError(f"scales must be factors above 0 and up to 16, not {tuple(scales)}.")
        tiling = None if tile is None else Tiling.of(tile, overlap)
        self.looks = Looks(flip, tuple(scales), tiling, self.batching.size or 1)
        head = self._ready.head_of("semantic")
        self._head = head if isinstance(head, SemanticHead) else None
        self._told_of_tiles = False
        if self.looks != Looks(batch_size=self.looks.batch_size):
            self._check_looks(tiling)

    @property
    def channels(self) -> int:
        """Of the images that the model takes."""
        return len(self._ready.preprocess.mean)

    def _check_looks(self, tiling: Tiling | None) -> None:
        if self._head is None:
            raise VisionTasksError(
                "tile, overlap, flip and scales are for semantic maps, and this model makes none: it finds objects. "
                "Leave them out."
            )
        if tiling is not None:
            tiling.check_stride(tile_stride(self._ready.preprocess))

    @overload
    def __call__(self, source: ImageLike) -> Prediction: ...
    @overload
    def __call__(self, source: list[ImageLike] | tuple[ImageLike, ...]) -> list[Prediction]: ...
    def __call__(self, source: ImageLike | list[ImageLike] | tuple[ImageLike, ...]) -> Prediction | list[Prediction]:
        """One image gives a prediction, a list of images a list. Predictions are on the CPU.

        For folders and videos, and for more images than memory holds, there is `stream`.

        Raises:
            VisionTasksError: an image cannot be read, or has an unknown form.
        """
        if isinstance(source, (list, tuple)):
            return self.batching.run(
                source, lambda part: self._predict([to_tensor(image, self.channels) for image in part])
            )
        return self.predict([to_tensor(source, self.channels)])[0]

    def stream(
        self, source: Any, track: str | Tracker | None = None, ahead: int = 8, **options: Any
    ) -> Iterator[tuple[Frame, Prediction]]:
        """Frames and their predictions, one after another, holding no more than a few, however long the video.

        Args:
            source: an image, folder, pattern, zip or video file, a camera's number, the address of a stream; an array,
                PIL image or tensor; a list, or anything that yields these (docs/video.md).
            track: give objects numbers that stay from frame to frame (`Prediction.track_ids`): "bytetrack", "sort",
                "ocsort", or a tracker of your own (docs/tracking.md).
            ahead: frames that are decoded, on a thread of their own, before they are asked for.
            options: of the tracker.

        What cannot be read is left out and logged.

        Raises:
            VisionTasksError: a source is not there, or none of it can be read.
        """
        from vision_tasks.inference.sources import open_sources
        from vision_tasks.inference.streaming import predict_sources, trackers_of

        trackers = trackers_of(track, **options)
        sources = open_sources(source if isinstance(source, (list, tuple)) else [source], self.channels)
        return predict_sources(self, sources, trackers, ahead)

    def predict(self, images: Sequence[Tensor], threshold: float | None = None) -> list[Prediction]:
        """Predictions of (C, H, W) tensors, in batches, objects above the threshold, on the CPU.

        Of an image that is looked at more than once, or in tiles, the map is made by itself.

        Args:
            threshold: instead of the predictor's own.
        """
        return self.batching.run(images, lambda part: self._predict(part, threshold))

    def _predict(self, images: Sequence[Tensor], threshold: float | None = None) -> list[Prediction]:
        """One batch."""
        with torch.inference_mode():
            here = [self._sent(image) for image in images]
            sizes = [self._ready.preprocess.network_size((image.shape[-2], image.shape[-1])) for image in here]
            for image, size in zip(here, sizes, strict=True):
                self._tell_tiles((image.shape[-2], image.shape[-1]), size)
            if all(self.looks.plain_at(size) for size in sizes):
                predictions = self._once(here)
            else:
                predictions = [self._looked_at(image) for image in here]
            least = self.threshold if threshold is None else threshold
            return [p.filter(least).to("cpu") for p in predictions]

    def _once(self, images: Sequence[Tensor]) -> list[Prediction]:
        """One look at each image, all in one pass."""
        batch = self._ready.preprocess(images)
        if not self.embed:
            return self._ready.predict(batch)
        features = self._ready.features(batch.images)
        return _with_embeddings(self._ready.predict(batch, features), features, batch)

    def _sent(self, image: Tensor) -> Tensor:
        """The image on the device; to a GPU through pinned memory, without waiting."""
        if self.device.type == "cuda" and image.device.type == "cpu":
            return image.pin_memory().to(self.device, non_blocking=True)
        return image.to(self.device)

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
        if self._ready.head_of("objects") is None:
            found = Prediction((image.shape[-2], image.shape[-1]), categories, semantic_categories=categories)
        else:
            (found,) = self._once([image])
        found = dataclasses.replace(found, semantic=predict_map(self._ready, self._head, image, self.looks))
        return found if self._ready.panoptic is None else with_panoptic(found, self._ready.panoptic)


def _with_embeddings(predictions: list[Prediction], features: dict[str, Tensor], batch: Batch) -> list[Prediction]:
    """The predictions, which are on the original grid, with what their objects look like in the features."""
    from vision_tasks.inference.appearance import embed

    if any(p.boxes is None for p in predictions):
        return predictions
    boxes = [
        p.boxes * p.boxes.new_tensor(scale * 2) + p.boxes.new_tensor(offset * 2)
        for p, scale, offset in zip(predictions, batch.scales, batch.offsets, strict=True)
        if p.boxes is not None
    ]
    counts = [len(b) for b in boxes]
    index = torch.arange(len(boxes), device=batch.images.device).repeat_interleave(
        torch.tensor(counts, device=batch.images.device)
    )
    canvas: Size = (batch.images.shape[-2], batch.images.shape[-1])
    made = embed(features, canvas, torch.cat(boxes), index).split(counts)
    return [dataclasses.replace(p, embeddings=e) for p, e in zip(predictions, made, strict=True)]


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise VisionTasksError(f"threshold must be in 0..1, not {threshold}.")
