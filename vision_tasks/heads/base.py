"""What every head promises: features in; named losses, or predictions on the network's grid, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from vision_tasks.structures import Batch, Categories, Prediction, Target


def weighed(losses: Tensor, outputs: Tensor, positive: Tensor | None, weights: Tensor | None) -> Tensor:
    """Losses times the weight of the category that each is about.

    Args:
        losses: (...). outputs: (...) int64, class output of the truth. positive: (...) bool, where there is a truth;
            None: everywhere. weights: `Head.output_weights`; None changes nothing.
    """
    if weights is None:
        return losses
    own = weights[outputs]
    return losses * (own if positive is None else own.where(positive, 1))


class Head(nn.Module):
    """One task on a pyramid. It owns its categories and knows which of its outputs they are.

    Attributes:
        categories: what its labels mean, K of them.
        levels: names of the maps it reads, of backbone and neck together, finest first.
        columns: (K,) int64 buffer: the output that belongs to each label. Published COCO weights have 91 outputs,
            background and 80 real categories among them; picking after the softmax leaves scores those of the
            full output, and the unused never come out.
        background: the output that means "nothing", if there is one.
        default_weights: factors of its losses by name, where the recipe does not say; 1 if not named.
        output_weights: (outputs,) what an anchor of each output's category counts in the class loss, or None for 1
            (`weigh_classes`). It belongs to the training, not to the model, and is not saved.
        kind: what its categories are of: "objects" or "semantic" maps. A model has at most one head of each.
    """

    kind: Literal["objects", "semantic"] = "objects"
    columns: Tensor
    output_weights: Tensor | None
    background: int | None = None
    default_weights: Mapping[str, float] = MappingProxyType({})

    def __init__(self, categories: Categories, levels: Sequence[str], columns: Sequence[int]) -> None:
        super().__init__()
        if len(columns) != len(categories):
            raise ValueError(f"{len(categories)} categories need as many columns, not {len(columns)}")
        self.categories = categories
        self.levels = tuple(levels)
        self.register_buffer("columns", torch.tensor(list(columns), dtype=torch.int64), persistent=False)
        self.register_buffer("output_weights", None, persistent=False)

    def weigh_classes(self, weights: Sequence[float]) -> None:
        """Let objects of category k count weights[k] times in the class loss; what is background counts once."""
        if len(weights) != len(self.categories):
            raise ValueError(f"{len(self.categories)} categories need as many weights, not {len(weights)}")
        outputs = torch.ones(int(self.columns.max()) + 1, device=self.columns.device)
        outputs[self.columns] = torch.tensor(list(weights), dtype=torch.float32, device=self.columns.device)
        self.output_weights = outputs

    @property
    def has_masks(self) -> bool:
        """Whether its predictions have masks, by which they are then judged, too."""
        return False

    def annotated(self, target: Target) -> bool:
        """Whether somebody annotated what this head learns; an image without is none of its losses' business."""
        return target.boxes is not None

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted scalars; finite on empty images, one-pixel boxes and all-crowd batches."""
        raise NotImplementedError

    def predict(self, features: dict[str, Tensor], batch: Batch) -> list[Prediction]:
        """One prediction per image, on the network's grid."""
        raise NotImplementedError

    def tensors(self, features: dict[str, Tensor], image_sizes: Tensor, canvas: tuple[int, int]) -> dict[str, Tensor]:
        """What `predict` says in tensors of fixed shape, for `torch.export` and whatever runs its programs.

        Args:
            image_sizes: (B, 2) height and width of each image on the canvas. canvas: (height, width) of the batch.

        Returns:
            boxes (B, D, 4) in network pixels, labels (B, D) int64, scores (B, D), count (B,) int64, and masks
            (B, D, 28, 28) of a head that has them: D detections an image, zeros after the first `count`.
        """
        raise NotImplementedError

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        """Parameters that hold one part per class output: name in this module -> (before, after).

        The first dimension of such a parameter is before × outputs × after: (1, 4) for R-CNN's boxes per class,
        (anchors, 1) for a dense head that scores all anchors of a cell. With it a fine-tune keeps the parts of
        categories that a weight file knows by the same name.
        """
        return {}
