"""A model: preprocessing, a backbone, perhaps a neck, and named heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from vision_tasks.backbones.base import Backbone
from vision_tasks.heads.base import Head
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.necks.base import Neck
from vision_tasks.ops.boxes import clip
from vision_tasks.structures import Batch, Categories, Masks, Prediction, Target

if TYPE_CHECKING:
    from vision_tasks.ops.panoptic import PanopticRule

_FIELDS = ("boxes", "labels", "scores", "masks", "semantic", "semantic_categories")


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
        panoptic: how masks and map are merged into one panoptic map; None does not.
        blueprint: how to build it again; None for a model assembled by hand, which cannot be saved.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        backbone: Backbone,
        neck: Neck | None,
        heads: dict[str, Head],
        panoptic: PanopticRule | None = None,
    ) -> None:
        super().__init__()
        kinds = [head.kind for head in heads.values()]
        if len(set(kinds)) != len(kinds):
            raise ValueError(
                f"two heads fill the same fields of a prediction: {', '.join(heads)} are {', '.join(kinds)}"
            )
        if panoptic is not None and sorted(kinds) != ["objects", "semantic"]:
            raise ValueError("panoptic merging needs a head with masks of objects and one that draws semantic maps")
        self.preprocess = preprocess
        self.backbone = backbone
        self.neck: Neck | None = neck
        self.heads = nn.ModuleDict(heads)
        self.panoptic = panoptic
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
        """Unweighted scalars by "head/loss"; weights are applied by whoever sums them.

        A head learns from the images on which somebody annotated what it is about; the others are as if they were not
        in the batch. If there are none its losses are 0, but still depend on all its parameters: the ranks of a
        distributed run wait for each other's gradients.
        """
        features = self.features(batch.images)
        return {
            f"{head_name}/{name}": loss
            for head_name, head in self.named_heads().items()
            for name, loss in _losses_of(head, features, batch).items()
        }

    @property
    def loss_weights(self) -> dict[str, float]:
        """Factors of losses by "head/loss" where the recipe does not say; 1 if not named."""
        return {
            f"{head_name}/{name}": weight
            for head_name, head in self.named_heads().items()
            for name, weight in head.default_weights.items()
        }

    def head_of(self, kind: Literal["objects", "semantic"]) -> Head | None:
        """The head that detects objects, or draws semantic maps, if there is one."""
        return next((head for head in self.named_heads().values() if head.kind == kind), None)

    def predict(
        self,
        batch: Batch,
        features: dict[str, Tensor] | None = None,
        kind: Literal["objects", "semantic"] | None = None,
    ) -> list[Prediction]:
        """One prediction per image, in original pixels. Call in evaluation mode, under `torch.inference_mode()`.

        features: of the batch, where they are known already. kind: only what heads of this kind say.
        """
        if features is None:
            features = self.features(batch.images)
        parts = [head.predict(features, batch) for head in self.named_heads().values() if kind in (None, head.kind)]
        merged = [
            _on_original_grid(_merged([part[i] for part in parts]), batch, i) for i in range(len(batch.original_sizes))
        ]
        if self.panoptic is None or kind is not None:
            return merged
        return [with_panoptic(p, self.panoptic) for p in merged]

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


def _losses_of(head: Head, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """A head's losses on the images that are annotated for it."""
    assert batch.targets is not None, "losses need targets"
    rows = [i for i, target in enumerate(batch.targets) if head.annotated(target)]
    if len(rows) == len(batch.targets):
        return head.losses(features, batch)
    some = batch.subset(rows or [0])
    if not rows:
        assert some.targets is not None
        some.targets = [_without_objects(target, batch.images.device) for target in some.targets]
    index = torch.tensor(rows or [0], device=batch.images.device)
    losses = head.losses({level: map_[index] for level, map_ in features.items()}, some)
    return losses if rows else {name: loss * 0 for name, loss in losses.items()}


def _without_objects(target: Target, device: torch.device) -> Target:
    """The same image, on which somebody looked for objects and found none."""
    return Target(
        target.image_id,
        target.size,
        boxes=torch.zeros(0, 4, device=device),
        labels=torch.zeros(0, dtype=torch.int64, device=device),
        masks=Masks(target.size, shapes=[]),
        area=torch.zeros(0, device=device),
        is_crowd=torch.zeros(0, dtype=torch.bool, device=device),
    )


def _merged(parts: Sequence[Prediction]) -> Prediction:
    """One prediction from those of several heads, of which at most one fills each field.

    `categories` are those of the objects, if there are any.
    """
    first = next((part for part in parts if part.labels is not None), parts[0])
    filled: dict[str, Any] = {}
    for part in parts:
        for name in _FIELDS if part is not first else ():
            value = getattr(part, name)
            if value is not None:
                if getattr(first, name) is not None or name in filled:
                    raise ValueError(f"two heads both predict {name}")
                filled[name] = value
    return dataclasses.replace(first, **filled) if filled else first


def with_panoptic(prediction: Prediction, rule: PanopticRule) -> Prediction:
    """The prediction with its objects and its map merged, whatever was merged before."""
    from vision_tasks.ops.panoptic import merge_panoptic

    assert prediction.masks is not None
    assert prediction.labels is not None
    assert prediction.scores is not None
    assert prediction.semantic is not None
    assert prediction.semantic_categories is not None
    merged = merge_panoptic(
        prediction.masks,
        prediction.labels,
        prediction.scores,
        prediction.categories,
        prediction.semantic,
        prediction.semantic_categories,
        rule,
    )
    return dataclasses.replace(prediction, panoptic=merged)


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
