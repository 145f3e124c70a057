"""Run a model on images and video: whatever form they come in, predictions in their own pixels come out."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.batching import Batching, choose_device
from vision_tasks.inference.looks.ensemble import Ensemble
from vision_tasks.inference.looks.looking import Looking
from vision_tasks.inference.looks.looks import Looks
from vision_tasks.inference.looks.merging import Fusing, Merging
from vision_tasks.inference.looks.sliding import Tiling
from vision_tasks.inference.pixels import ImageLike, to_tensor
from vision_tasks.inference.speed.prepare import prepare
from vision_tasks.models.checkpoint import load
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Batch, Prediction, Size

if TYPE_CHECKING:
    from vision_tasks.inference.frames import Frame
    from vision_tasks.inference.tracking.base import Tracker


class Predictor:
    """A model ready to be asked.

    Images are predicted one at a time unless `batch_size` says otherwise: images of a batch are padded to one canvas,
    so batch-mates change a prediction slightly.

    Args:
        model: a model, of which a copy is made and which may go on training, or the path of a checkpoint; several are
            asked together, and must know the same categories by name (docs/more_accuracy.md).
        device: "auto" (CUDA, else MPS, else CPU) or a torch device.
        threshold: objects with lower scores are left out, 0..1. 0 keeps all that the model gives. Maps are as the model
            decides them.
        speed: "exact": the numbers of the eager float32 model. "fast": bfloat16 where the processor computes it.
            "max": compiled, too; the first images take minutes. What they cost is in docs/speed.md.
        batch_size: images per forward pass when there are several; tiles per forward pass of a large image. "auto": as
            many as the memory of a GPU holds; one on a CPU. Where memory does not suffice it is halved.
        tile: images are looked at in square tiles of so many pixels, or of (height, width), so that small objects are
            seen large and memory does not grow with the image. Objects: pixels of the image as it is; each tile is
            resized as an image would be. Maps: pixels of the image once it is resized as the model wants it; of one
            that is shrunk to less than a tile, tiles change nothing, which is said once.
        overlap: what neighbouring tiles share, in pixels or, below 1, as a part of the tile; a quarter if not given.
        whole: objects are looked for in the whole image, too, as one more tile: those larger than a tile.
        merge: how objects of overlapping tiles become one: "join", "nms", "nmm" (SAHI's) or "wbf".
        flip: once more at the mirror image. scales: at these multiples of the model's own image size. Maps are means.
        fuse: how objects of several looks or models become one: "wbf", "nms", "soft_linear" or "soft_gaussian".
        weights: of the models, if there are several.
        categories: names; objects of others are left out. None keeps all.
        embed: predictions say what each object looks like (`Prediction.embeddings`), for trackers.

    Attributes:
        model: as it was given or read. speed, threshold, batching, device: as above.

    Raises:
        VisionTasksError: a value out of range, a device that is not there, a checkpoint that cannot be read, models
            that do not fit together, or tiles that do not fit a model that draws maps.
    """

    def __init__(
        self,
        model: VisionModel | str | Path | Sequence[VisionModel | str | Path],
        device: str | torch.device = "auto",
        threshold: float = 0.5,
        speed: str = "exact",
        batch_size: int | Literal["auto"] = 1,
        tile: int | Size | None = None,
        overlap: float | None = None,
        whole: bool = True,
        merge: Merging = "join",
        flip: bool = False,
        scales: Sequence[float] = (),
        fuse: Fusing = "wbf",
        weights: Sequence[float] | None = None,
        categories: Sequence[str] | None = None,
        embed: bool = False,
    ) -> None:
        _check_threshold(threshold)
        self.device = choose_device(device)
        self.batching = Batching(batch_size, self.device)
        several = [model] if isinstance(model, (VisionModel, str, Path)) else list(model)
        given = [m if isinstance(m, VisionModel) else load(m) for m in several]
        if overlap is not None and tile is None:
            raise VisionTasksError("overlap is that of tiles: give tile=1024, say, as well.")
        tiling = None if tile is None else Tiling.of(tile, overlap)
        if isinstance(scales, (str, int, float)) or not all(isinstance(scale, (int, float)) for scale in scales):
            raise VisionTasksError(f"scales must be a list of factors, such as (0.75, 1, 1.25), not {scales!r}.")
        self.looks = Looks(flip, tuple(scales), tiling, self.batching.size or 1, whole, merge=merge, fuse=fuse)
        tiles = Batching(batch_size, self.device)
        Looking(Ensemble(given, weights), self.looks, tiles)  # complains before models are made ready, which takes time
        ready = Ensemble([prepare(m, speed, self.device) for m in given], weights)
        self._looking = Looking(ready, self.looks, tiles)
        self.model = given[0]
        self._ready = ready.models[0]
        self.speed = speed
        self.threshold = threshold
        self.embed = embed
        self._labels = None if categories is None else _labels_of(categories, self.model)

    @property
    def channels(self) -> int:
        """Of the images that the model takes."""
        return len(self._ready.preprocess.mean)

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
        self,
        source: Any,
        track: str | Tracker | None = None,
        every: int = 1,
        start: float | None = None,
        end: float | None = None,
        ahead: int = 4,
        **options: Any,
    ) -> Generator[tuple[Frame, Prediction], None, None]:
        """Frames and their predictions, one after another, holding no more than a few, however long the video.

        Args:
            source: an image, folder, pattern, zip or video file, a camera's number, the address of a stream; an array,
                PIL image or tensor; a list, or anything that yields these (docs/video.md).
            track: give objects numbers that stay from frame to frame (`Prediction.track_ids`): "bytetrack", "sort",
                "ocsort", or a tracker of your own (docs/tracking.md).
            every, start, end: of videos, only every n-th frame, from and before these seconds.
            ahead: frames that are decoded, on a thread of their own, before they are asked for.
            options: of the tracker.

        What cannot be read is left out and logged.

        Raises:
            VisionTasksError: a source is not there, or none of it can be read.
        """
        from vision_tasks.inference.sources.opening import open_sources
        from vision_tasks.inference.streaming import predict_sources, trackers_of

        trackers = trackers_of(track, **options)
        sources = open_sources(source, self.channels, every=every, start=start, end=end)
        return predict_sources(self, sources, trackers, ahead)

    def predict(
        self, images: Sequence[Tensor], threshold: float | None = None, embed: bool | None = None
    ) -> list[Prediction]:
        """Predictions of (C, H, W) tensors, in batches, objects above the threshold, on the CPU.

        An image that is looked at more than once, or in tiles, is worked on by itself.

        Args:
            threshold, embed: instead of the predictor's own.
        """
        return self.batching.run(images, lambda part: self._predict(part, threshold, embed))

    def _predict(
        self, images: Sequence[Tensor], threshold: float | None = None, embed: bool | None = None
    ) -> list[Prediction]:
        """One batch."""
        with torch.inference_mode():
            here = [self._sent(image) for image in images]
            least = self.threshold if threshold is None else threshold
            embed = self.embed if embed is None else embed
            if all(self._looking.plain((image.shape[-2], image.shape[-1])) for image in here):
                predictions = self._once(here, embed)
            else:
                predictions = [self._looked_at(image, least, embed) for image in here]
            return [self._wanted(p.filter(least)).to("cpu") for p in predictions]

    def _wanted(self, found: Prediction) -> Prediction:
        if self._labels is None or found.labels is None:
            return found
        return found[torch.isin(found.labels, self._labels.to(found.labels.device))]

    def _once(self, images: Sequence[Tensor], embed: bool) -> list[Prediction]:
        """One look at each image, all in one pass."""
        batch = self._ready.preprocess(images)
        if not embed:
            return self._ready.predict(batch)
        features = self._ready.features(batch.images)
        return _with_embeddings(self._ready.predict(batch, features), features, batch)

    def _sent(self, image: Tensor) -> Tensor:
        """The image on the device; to a GPU through pinned memory, without waiting."""
        if self.device.type == "cuda" and image.device.type == "cpu":
            return image.pin_memory().to(self.device, non_blocking=True)
        return image.to(self.device)

    def _looked_at(self, image: Tensor, threshold: float, embed: bool) -> Prediction:
        """All looks at one image; what objects look like is read off one look at the whole of it."""
        found = self._looking(image, threshold, lambda whole: self._once([whole], embed)[0])
        if not embed or found.embeddings is not None:
            return found
        batch = self._ready.preprocess([image])
        return _with_embeddings([found], self._ready.features(batch.images), batch)[0]


def _with_embeddings(predictions: list[Prediction], features: dict[str, Tensor], batch: Batch) -> list[Prediction]:
    """The predictions, which are on the original grid, with what their objects look like in the features."""
    from vision_tasks.inference.tracking.appearance import embed

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


def _labels_of(names: Sequence[str], model: VisionModel) -> Tensor:
    """Labels of these categories of the model's objects."""
    head = model.head_of("objects")
    if head is None:
        raise VisionTasksError("categories chooses among objects, and this model finds none: it draws maps.")
    if isinstance(names, str) or not names:
        raise VisionTasksError(f"categories must be a list of names, at least one, not {names!r}.")
    known = [name.casefold() for name in head.categories.names]
    for name in names:
        if name.casefold() not in known:
            near = difflib.get_close_matches(name.casefold(), known, 1)
            hint = f" Did you mean {head.categories.names[known.index(near[0])]!r}?" if near else ""
            raise VisionTasksError(
                f"The model knows no category {name!r}.{hint} It knows {_some(head.categories.names)}."
            )
    wanted = {name.casefold() for name in names}
    return torch.tensor([label for label, name in enumerate(known) if name in wanted], dtype=torch.int64)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise VisionTasksError(f"threshold must be in 0..1, not {threshold}.")
