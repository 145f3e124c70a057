"""The words that pass between rooms: Masks, Target, Panoptic, Prediction, Batch; `Categories` is in `categories`.

Pixels are continuous: a box over one whole pixel is (x, y, x + 1, y + 1) and has area 1.
A label is an index 0..K-1 into its `Categories`; a detector has no background class.
Sizes are always (height, width).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from vision_tasks.categories import Categories as Categories
from vision_tasks.categories import Color as Color
from vision_tasks.categories import category_color as category_color

Size = tuple[int, int]
"""(height, width) in pixels."""


class Rle(TypedDict):
    """COCO run-length encoding: `size` is [height, width], `counts` the compressed form."""

    size: list[int]
    counts: bytes


Polygons = list[np.ndarray]
"""Outlines of one object: each (P, 2) float32, x then y, in continuous pixels."""


@dataclass
class Masks:
    """Masks of N objects, kept as what they came as and rendered on demand (`ops.masks`).

    Either `shapes` (each object's polygons or RLE; from annotations) or `grid` (from a mask head) is given.

    Attributes:
        size: (height, width) of the image they live on.
        shapes: N entries: a list of polygons, an `Rle`, or None where an object has no mask.
        grid: (N, 28, 28) float mask probabilities over `boxes`. boxes: (N, 4).
    """

    size: Size
    shapes: list[Polygons | Rle | None] | None = None
    grid: Tensor | None = None
    boxes: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.shapes is None) == (self.grid is None):
            raise ValueError("Masks: give either shapes or grid")
        if self.grid is not None and (self.boxes is None or len(self.boxes) != len(self.grid)):
            raise ValueError("Masks: a grid needs one box per mask")

    def __len__(self) -> int:
        if self.shapes is not None:
            return len(self.shapes)
        assert self.grid is not None
        return len(self.grid)

    def __getitem__(self, index: Tensor | Sequence[int]) -> Masks:
        """The masks at these indices (int64) or where this (N,) bool tensor is true."""
        chosen = _as_index(index)
        if self.grid is not None:
            assert self.boxes is not None
            return Masks(self.size, grid=self.grid[chosen], boxes=self.boxes[chosen])
        assert self.shapes is not None
        if chosen.dtype == torch.bool:
            chosen = chosen.nonzero().flatten()
        return Masks(self.size, shapes=[self.shapes[int(i)] for i in chosen])


@dataclass
class Target:
    """Truth of one image. **None means nobody annotated it; zero rows mean there is nothing.**

    Attributes:
        image_id: id in the data set. size: (height, width) of the grid the fields live on.
        boxes: (N, 4) float32 corners in pixels. labels: (N,) int64 in 0..K-1.
        masks: N masks. area: (N,) float32, the annotation's own. is_crowd: (N,) bool.
        semantic: (H, W) int16 labels with -1 to ignore; or, for heads that decide every category on its own,
            (L, H, W) int8: 1 where it is, 0 where it is not, -1 to ignore.
    """

    image_id: int
    size: Size
    boxes: Tensor | None = None
    labels: Tensor | None = None
    masks: Masks | None = None
    area: Tensor | None = None
    is_crowd: Tensor | None = None
    semantic: Tensor | None = None

    def __post_init__(self) -> None:
        _check_rows(
            "Target", boxes=self.boxes, labels=self.labels, masks=self.masks, area=self.area, is_crowd=self.is_crowd
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Target:
        """Copy with the tensors on a device; polygons stay on the host."""
        return dataclasses.replace(self, **_moved_tensors(self, device, non_blocking))


@dataclass
class Panoptic:
    """Every pixel in at most one segment: a thing of its own, or all there is of a stuff (Kirillov et al. 2018).

    Attributes:
        ids: (H, W) int32: 0 where nothing is decided, else 1 + the segment's row in what follows.
        labels: (S,) int64 into `categories`, of things and stuff together.
        scores: (S,) float32 of predicted things, 1 for stuff. is_crowd: (S,) bool of truth.
    """

    ids: Tensor
    labels: Tensor
    categories: Categories
    scores: Tensor | None = None
    is_crowd: Tensor | None = None

    def __post_init__(self) -> None:
        _check_rows("Panoptic", labels=self.labels, scores=self.scores, is_crowd=self.is_crowd)

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.labels)

    def to(self, device: torch.device | str) -> Panoptic:
        """Copy with the tensors on a device."""
        return dataclasses.replace(self, **_moved_tensors(self, device, False))


_ROWS = ("boxes", "labels", "scores", "masks", "track_ids", "embeddings")
"""Fields of a prediction with one row an object."""
_NAMED = 5
"""Objects that a prediction names when it is printed."""


@dataclass(repr=False)
class Prediction:
    """What a model says about one image, on that image's own grid.

    Attributes:
        size: (height, width) of the image. categories: what the labels mean.
        boxes: (N, 4) float32 corners in pixels, best score first. labels: (N,) int64. scores: (N,) float32 in 0..1.
        masks: N masks. track_ids: (N,) int64.
        embeddings: (N, D) float32 of length 1, what each object looks like, if that was asked for.
        semantic: (H, W) int16; or (L, H, W) bool of a head that decides every category on its own.
        semantic_categories: what the map's values mean; the same as `categories` of a model that only makes maps.
        panoptic: instances and map merged, if the model does that.
    """

    size: Size
    categories: Categories
    boxes: Tensor | None = None
    labels: Tensor | None = None
    scores: Tensor | None = None
    masks: Masks | None = None
    semantic: Tensor | None = None
    track_ids: Tensor | None = None
    embeddings: Tensor | None = None
    semantic_categories: Categories | None = None
    panoptic: Panoptic | None = None

    def __post_init__(self) -> None:
        _check_rows(
            "Prediction",
            boxes=self.boxes, labels=self.labels, scores=self.scores, masks=self.masks, track_ids=self.track_ids,
            embeddings=self.embeddings,
        )  # fmt: skip

    def __len__(self) -> int:
        """Number of objects."""
        return 0 if self.boxes is None else len(self.boxes)

    def __iter__(self) -> Iterator[Prediction]:
        """Each object as a prediction of its own."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        """In a line: the size, the first objects, and what else there is."""
        objects = ""
        if self.labels is not None:
            names, some = self.categories.names, self.labels[:_NAMED].tolist()
            scores = [""] * len(some) if self.scores is None else [f" {s:.2f}" for s in self.scores[:_NAMED].tolist()]
            words = [f"{names[label]}{score}" for label, score in zip(some, scores, strict=True)]
            objects = f": {', '.join([*words, *(['...'] if len(self) > _NAMED else [])])}" if words else ""
        fields = ("masks", "semantic", "panoptic", "track_ids", "embeddings")
        more = "".join(f", {name}" for name in fields if getattr(self, name) is not None)
        count = "" if self.boxes is None else f", {len(self)} object{'' if len(self) == 1 else 's'}{objects}"
        return f"Prediction({self.size[0]}×{self.size[1]}{count}{more})"

    def __getitem__(self, index: int | Tensor | slice | Sequence[int]) -> Prediction:
        """The objects at this index or these, in this slice, or where this (N,) bool tensor is true."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"there is no object {index} of {len(self)}")
            index = [index % len(self)]
        if isinstance(index, slice):
            index = torch.arange(len(self))[index]
        chosen = _as_index(index)
        rows: dict[str, Any] = {
            name: None if value is None else value[chosen] for name in _ROWS for value in [getattr(self, name)]
        }
        return dataclasses.replace(self, **rows)

    def filter(self, threshold: float) -> Prediction:
        """Only objects that score at least `threshold`."""
        if self.scores is None:
            return self
        return self[self.scores >= threshold]

    def scaled_to(self, size: Size) -> Prediction:
        """The same boxes and masks on an image resized to (height, width); `semantic` must be predicted at its size."""
        if size == self.size:
            return self
        if self.semantic is not None or self.panoptic is not None:
            raise ValueError(
                "Prediction.scaled_to: a semantic map cannot be rescaled without loss; predict at that size"
            )
        ratio_y, ratio_x = size[0] / self.size[0], size[1] / self.size[1]
        masks = self.masks
        if masks is not None:
            if masks.grid is None or masks.boxes is None:
                raise ValueError("Prediction.scaled_to: only masks in grid form can be rescaled")
            masks = Masks(size, grid=masks.grid, boxes=masks.boxes * masks.boxes.new_tensor([ratio_x, ratio_y] * 2))
        boxes = None if self.boxes is None else self.boxes * self.boxes.new_tensor([ratio_x, ratio_y] * 2)
        return dataclasses.replace(self, size=size, boxes=boxes, masks=masks)

    def to(self, device: torch.device | str) -> Prediction:
        """Copy with the tensors on a device."""
        return dataclasses.replace(self, **_moved_tensors(self, device, False))


@dataclass
class Batch:
    """Images as the network takes them: resized, normalised, padded to one canvas.

    Attributes:
        images: (B, C, H, W) float; image i fills `image_sizes[i]` of it from `offsets[i]` on.
        image_sizes: B (height, width) after resizing. original_sizes: B (height, width) before.
        scales: B (x, y) factors, network pixels = original pixels × scale + offset. offsets: B (x, y).
        targets: B truths on the network's grid, or None.
    """

    images: Tensor
    image_sizes: list[Size]
    original_sizes: list[Size]
    scales: list[tuple[float, float]]
    offsets: list[tuple[float, float]]
    targets: list[Target] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, rows: Sequence[int]) -> Batch:
        """Only these images, on the same canvas."""
        parts: dict[str, Any] = {
            name: None if value is None else [value[i] for i in rows]
            for name in ("image_sizes", "original_sizes", "scales", "offsets", "targets")
            for value in [getattr(self, name)]
        }
        return dataclasses.replace(self, images=self.images[list(rows)], **parts)


def _as_index(index: Tensor | Sequence[int]) -> Tensor:
    """Indices as a tensor; an empty list would become a float one, which cannot index."""
    chosen = torch.as_tensor(index)
    return chosen if chosen.numel() or chosen.dtype == torch.bool else chosen.to(torch.int64)


def _check_rows(owner: str, **fields: Any) -> None:
    """All given fields are equally long, so no caller need check."""
    lengths = {name: len(value) for name, value in fields.items() if value is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{owner}: fields must have one row per object, but their lengths are {lengths}")
    boxes = fields.get("boxes")
    if boxes is not None and (boxes.ndim != 2 or boxes.shape[1] != 4):
        raise ValueError(f"{owner}: boxes must be (N, 4), not {tuple(boxes.shape)}")


def _moved_tensors(
    item: Target | Prediction | Panoptic, device: torch.device | str, non_blocking: bool
) -> dict[str, Any]:
    changes: dict[str, Any] = {
        f.name: value.to(device, non_blocking=non_blocking)
        for f in dataclasses.fields(item)
        for value in [getattr(item, f.name)]
        if isinstance(value, Tensor)
    }
    masks = getattr(item, "masks", None)
    if masks is not None and masks.grid is not None:
        changes["masks"] = Masks(masks.size, grid=masks.grid.to(device), boxes=masks.boxes.to(device))
    panoptic = getattr(item, "panoptic", None)
    if panoptic is not None:
        changes["panoptic"] = panoptic.to(device)
    return changes
