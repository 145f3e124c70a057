"""A model: preprocessing, a backbone, perhaps a neck, and named heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vision_tasks.backbones.base import Backbone
from vision_tasks.heads.base import Head
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.necks.base import Neck
from vision_tasks.ops.boxes import clip
from vision_tasks.structures import Batch, Categories, Masks, Prediction


@dataclass(frozen=True)
class Blueprint:
    """How a model was built: enough, with its weights, to build it again.

    Attributes:
        builder: name in `MODELS`. arguments: what the builder was called with, primitives only.
    """

    builder: str
    arguments: dict[str, Any] = field(default_factory=dict)


class VisionModel(nn.Module):
    """Shared features, any number of heads on them, one forward pass.

    Attributes:
        preprocess: how images become its input. heads: by name; losses are called "head/loss".
        blueprint: how to build it again; None for a model assembled by hand, which cannot be saved.
    """

    def __init__(self, preprocess: Preprocess, backbone: Backbone, neck: Neck | None, heads: dict[str, Head]) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.backbone = backbone
        self.neck: Neck | None = neck
        self.heads = nn.ModuleDict(heads)
        self.blueprint: Blueprint | None = None

    @property
    def categories(self) -> Categories:
        """Of the first head, the only one in most models."""
        return next(iter(self.named_heads().values())).categories

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def named_heads(self) -> dict[str, Head]:
        """The heads by name, typed."""
        return {name: head for name, head in self.heads.items() if isinstance(head, Head)}

    @property
    def has_masks(self) -> bool:
        """Whether a head predicts masks of objects."""
        return any(head.has_masks for head in self.named_heads().values())

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) normalised images -> maps of backbone and neck by level name."""
        maps: dict[str, Tensor] = self.backbone(images)
        return {**maps, **self.neck(maps)} if self.neck is not None else maps

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Unweighted scalars by "head/loss"; weights are applied by whoever sums them."""
        features = self.features(batch.images)
        return {
            f"{head_name}/{name}": loss
            for head_name, head in self.named_heads().items()
            for name, loss in head.losses(features, batch).items()
        }

    def predict(self, batch: Batch) -> list[Prediction]:
        """One prediction per image, in original pixels. Call in evaluation mode, under `torch.inference_mode()`."""
        features = self.features(batch.images)
        parts = [head.predict(features, batch) for head in self.named_heads().values()]
        return [
            _on_original_grid(_merged([part[i] for part in parts]), batch, i) for i in range(len(batch.original_sizes))
        ]

    def tensors(self, images: Tensor, image_sizes: Tensor) -> dict[str, Tensor]:
        """`predict` in tensors of fixed shape, in network pixels (see `Head.tensors`).

        Args:
            images: (B, C, H, W) normalised and padded. image_sizes: (B, 2) height and width of each before padding.
        """
        features = self.features(images)
        canvas = (images.shape[-2], images.shape[-1])
        merged: dict[str, Tensor] = {}
        for head in self.named_heads().values():
            merged |= head.tensors(features, image_sizes, canvas)
        return merged

    def forward(self, batch: Batch) -> dict[str, Tensor] | list[Prediction]:
        """Losses in training mode, predictions in evaluation mode."""
        return self.losses(batch) if self.training else self.predict(batch)


def _merged(parts: Sequence[Prediction]) -> Prediction:
    """One prediction from those of several heads, of which at most one fills each field."""
    first, *rest = parts
    filled: dict[str, Any] = {}
    for part in rest:
        for name in ("boxes", "labels", "scores", "masks", "semantic"):
            value = getattr(part, name)
            if value is not None:
                if getattr(first, name) is not None:
                    raise ValueError(f"two heads both predict {name}")
                filled[name] = value
    return dataclasses.replace(first, **filled) if filled else first


def _on_original_grid(prediction: Prediction, batch: Batch, index: int) -> Prediction:
    """Undo the batch's scale and offset."""
    size, scale, offset = batch.original_sizes[index], batch.scales[index], batch.offsets[index]

    def moved(boxes: Tensor) -> Tensor:
        return clip((boxes - boxes.new_tensor(offset * 2)) / boxes.new_tensor(scale * 2), size)

    boxes, masks = prediction.boxes, prediction.masks
    if boxes is not None:
        boxes = moved(boxes)
    if masks is not None:
        if masks.grid is None or masks.boxes is None:
            raise ValueError("a head must predict its masks in grid form")
        masks = Masks(size, grid=masks.grid, boxes=moved(masks.boxes))
    return dataclasses.replace(prediction, size=size, boxes=boxes, masks=masks)
