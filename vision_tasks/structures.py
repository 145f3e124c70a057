"""The words that pass between rooms: Categories, Masks, Target, Prediction, Batch.

Pixels are continuous: a box over one whole pixel is (x, y, x + 1, y + 1) and has area 1.
A label is an index 0..K-1 into its `Categories`; a detector has no background class.
Sizes are always (height, width).
"""

from __future__ import annotations

import colorsys
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

Size = tuple[int, int]
"""(height, width) in pixels."""

Color = tuple[int, int, int]
"""Red, green, blue, each 0..255."""

# Okabe & Ito's palette, made to be told apart by people with any form of colour blindness
# ("Color Universal Design", 2008), without its black, which vanishes on dark photos.
_PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


def category_color(index: int) -> Color:
    """Colour of the category with this index: the same in every run, on every machine.

    The first seven are Okabe and Ito's; further ones repeat their hues at other lightness and saturation.
    """
    base = _PALETTE[index % len(_PALETTE)]
    turn = index // len(_PALETTE)
    if turn == 0:
        return base
    hue, light, saturation = colorsys.rgb_to_hls(*(c / 255 for c in base))
    light = min(0.85, max(0.2, light + (0.18, -0.18, 0.09, -0.09)[(turn - 1) % 4]))
    hue = (hue + 0.031 * (turn // 4)) % 1.0
    r, g, b = colorsys.hls_to_rgb(hue, light, max(0.35, saturation * 0.85))
    return (round(r * 255), round(g * 255), round(b * 255))


@dataclass(frozen=True)
class Categories:
    """The K categories of a data set or of a head, in label order.

    Attributes:
        names: K names.
        ids: K original ids (COCO's run 1..90 with gaps). They come back on output.
        is_thing: K flags; False for stuff (sky, road) in semantic and panoptic data.
        colors: K RGB colours for drawing.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    is_thing: tuple[bool, ...]
    colors: tuple[Color, ...]

    def __post_init__(self) -> None:
        k = len(self.names)
        if not (len(self.ids) == len(self.is_thing) == len(self.colors) == k):
            raise ValueError("Categories: names, ids, is_thing and colors must be equally long")
        if len(set(self.ids)) != k:
            twice = sorted({i for i in self.ids if self.ids.count(i) > 1})
            raise ValueError(f"Categories: ids must be unique; these occur twice: {twice}")

    @classmethod
    def of(cls, categories: Categories | Iterable[str] | Iterable[Mapping[str, Any]]) -> Categories:
        """From names (ids 1..K), or from COCO category dictionaries (`id`, `name`, optional `isthing`, `color`)."""
        if isinstance(categories, Categories):
            return categories
        if isinstance(categories, str):
            raise TypeError(f"categories must be a list of names, not the single string {categories!r}")
        entries: list[Mapping[str, Any]] = [
            c if isinstance(c, Mapping) else {"id": i, "name": c} for i, c in enumerate(categories, start=1)
        ]
        return cls(
            names=tuple(str(c["name"]) for c in entries),
            ids=tuple(int(c["id"]) for c in entries),
            is_thing=tuple(bool(c.get("isthing", True)) for c in entries),
            colors=tuple(_color(c.get("color"), i) for i, c in enumerate(entries)),
        )

    def to_list(self) -> list[dict[str, Any]]:
        """COCO category dictionaries; `Categories.of` reads them back."""
        return [
            {"id": i, "name": n, "isthing": int(t), "color": list(c)}
            for i, n, t, c in zip(self.ids, self.names, self.is_thing, self.colors, strict=True)
        ]

    @cached_property
    def label_of_id(self) -> dict[int, int]:
        """Original id -> label."""
        return {i: label for label, i in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.names)


def _color(value: Any, index: int) -> Color:
    if value is None:
        return category_color(index)
    r, g, b = (int(v) for v in value)
    return (r, g, b)


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
        semantic: (H, W) int16 labels with -1 to ignore, or (L, H, W) bool for multi-label.
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
class Prediction:
    """What a model says about one image, on that image's own grid.

    Attributes:
        size: (height, width) of the image. categories: what the labels mean.
        boxes: (N, 4) float32 corners in pixels, best score first. labels: (N,) int64. scores: (N,) float32 in 0..1.
        masks: N masks. semantic: (H, W) int16. track_ids: (N,) int64.
    """

    size: Size
    categories: Categories
    boxes: Tensor | None = None
    labels: Tensor | None = None
    scores: Tensor | None = None
    masks: Masks | None = None
    semantic: Tensor | None = None
    track_ids: Tensor | None = None

    def __post_init__(self) -> None:
        _check_rows(
            "Prediction",
            boxes=self.boxes, labels=self.labels, scores=self.scores, masks=self.masks, track_ids=self.track_ids,
        )  # fmt: skip

    def __len__(self) -> int:
        """Number of objects."""
        return 0 if self.boxes is None else len(self.boxes)

    def __getitem__(self, index: Tensor | slice | Sequence[int]) -> Prediction:
        """The objects at these indices, in this slice, or where this (N,) bool tensor is true."""
        if isinstance(index, slice):
            index = torch.arange(len(self))[index]
        chosen = _as_index(index)
        rows: dict[str, Any] = {
            name: None if value is None else value[chosen]
            for name in ("boxes", "labels", "scores", "masks", "track_ids")
            for value in [getattr(self, name)]
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
        if self.semantic is not None:
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


def _moved_tensors(item: Target | Prediction, device: torch.device | str, non_blocking: bool) -> dict[str, Any]:
    changes: dict[str, Any] = {
        f.name: value.to(device, non_blocking=non_blocking)
        for f in dataclasses.fields(item)
        for value in [getattr(item, f.name)]
        if isinstance(value, Tensor)
    }
    masks = getattr(item, "masks", None)
    if masks is not None and masks.grid is not None:
        changes["masks"] = Masks(masks.size, grid=masks.grid.to(device), boxes=masks.boxes.to(device))
    return changes
