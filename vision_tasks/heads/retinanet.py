"""RetinaNet (Lin et al. 2017): nine anchors at every cell, and a loss that so many of them do not drown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vision_tasks.heads.assignment import assign
from vision_tasks.heads.base import weighed
from vision_tasks.heads.dense import DenseHead, DenseMaps, exceeding, labels_above
from vision_tasks.heads.towers import by_anchor, output_layer, tower
from vision_tasks.losses.focal import sigmoid_focal_loss
from vision_tasks.ops.anchors import cell_anchors, grid_anchors
from vision_tasks.ops.box_coding import decode_boxes, encode_boxes
from vision_tasks.ops.boxes import generalized_iou, pairwise_iou
from vision_tasks.ops.detections import DetectionRule, Found
from vision_tasks.ops.matching import IGNORED, match
from vision_tasks.ops.semantic import logit
from vision_tasks.structures import Batch, Categories, Size

_FOREGROUND, _BACKGROUND = 0.5, 0.4  # overlaps; Lin et al. 2017, section 4


class RetinaNetHead(DenseHead):
    """Boxes of objects from anchors. Losses: `class` (focal) and `box`, per positive anchor, mean over the images.

    Args:
        in_channels: of every map. sizes: for each level the sides of its anchors, pixels; as many on every level.
        outputs: class outputs; none of them is background. rule: of detection.
        aspect_ratios: height / width of the anchors.
        norm: group norm in the towers. box_loss: "l1" of the encoded boxes, or "giou" of the decoded ones.
    """

    def __init__(
        self,
        categories: Categories,
        columns: Sequence[int],
        in_channels: int,
        levels: Sequence[str],
        sizes: Sequence[Sequence[float]],
        outputs: int,
        rule: DetectionRule,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        norm: bool = False,
        box_loss: Literal["l1", "giou"] = "l1",
    ) -> None:
        super().__init__(categories, levels, columns, rule)
        if len(sizes) != len(levels):
            raise ValueError(f"one anchor size per level: {len(levels)} levels {tuple(levels)}, {len(sizes)} sizes")
        for i, level_sizes in enumerate(sizes):
            self.register_buffer(f"cell{i}", cell_anchors(level_sizes, aspect_ratios), persistent=False)
        self.anchors, self.box_loss = len(sizes[0]) * len(aspect_ratios), box_loss
        self.class_tower = tower(in_channels, norm, bias=not norm)
        self.box_tower = tower(in_channels, norm, bias=not norm)
        self.class_logits = output_layer(in_channels, self.anchors * outputs, classes=True)
        self.box_deltas = output_layer(in_channels, self.anchors * 4)

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        return {"class_logits.weight": (self.anchors, 1), "class_logits.bias": (self.anchors, 1)}

    def maps(self, features: dict[str, Tensor], canvas: Size) -> DenseMaps:
        maps = DenseMaps([], [], [], [])
        for level in self.levels:
            x = features[level]
            maps.sizes.append((x.shape[-2], x.shape[-1]))
            maps.logits.append(by_anchor(self.class_logits(self.class_tower(x)), self.anchors))
            maps.boxes.append(by_anchor(self.box_deltas(self.box_tower(x)), self.anchors))
        return maps

    def references(self, sizes: list[Size], canvas: Size) -> Tensor:
        return torch.cat(grid_anchors([getattr(self, f"cell{i}") for i in range(len(self.levels))], sizes, canvas))

    def scores(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        return logits[..., self.columns].sigmoid()

    def found(self, logits: Tensor, quality: Tensor | None) -> Found:
        threshold = self.rule.score_threshold
        rows, outputs, labels = labels_above(logits, logit(threshold), self.columns)
        return exceeding(Found(rows, labels, logits[rows, outputs].float().sigmoid()), threshold)

    def decode(self, boxes: Tensor, references: Tensor) -> Tensor:
        return decode_boxes(boxes, references)

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None, "losses need targets"
        out = self.outputs(features, (batch.images.shape[-2], batch.images.shape[-1]))
        truth = assign(batch.targets, self.columns, len(out.references), partial(_match, out.references))
        positive = truth.positive
        focal = sigmoid_focal_loss(out.logits, truth.classes(out.logits)).sum(-1)
        focal = weighed(focal, truth.columns, positive, self.output_weights)
        if self.box_loss == "l1":
            wanted = encode_boxes(truth.boxes, out.references)
            box = F.l1_loss(out.boxes, wanted.where(positive[..., None], 0), reduction="none").sum(-1)
        else:
            box = 1 - generalized_iou(self.decode(out.boxes, out.references), truth.boxes)
        share = 1 / (positive.sum(1).clamp(min=1) * max(truth.annotated, 1))
        return {
            "class": (focal.where(truth.matches != IGNORED, 0).sum(1) * share).sum(),
            "box": (box.where(positive, 0).sum(1) * share).sum(),
        }


def _match(anchors: Tensor, truth: Tensor, real: Tensor) -> Tensor:
    overlaps = torch.where(real[:, None], pairwise_iou(truth, anchors), -1)
    return match(overlaps, _FOREGROUND, _BACKGROUND, low_quality=True)
