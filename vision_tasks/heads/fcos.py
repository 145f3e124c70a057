"""FCOS (Tian et al. 2020): every cell within an object finds the object's four sides."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from vision_tasks.heads.assignment import assign
from vision_tasks.heads.base import weighed
from vision_tasks.heads.dense import DenseHead, DenseMaps, exceeding, labels_above
from vision_tasks.heads.towers import by_anchor, output_layer, tower
from vision_tasks.losses.focal import sigmoid_focal_loss
from vision_tasks.ops.anchors import cell_anchors, grid_anchors
from vision_tasks.ops.box_coding import decode_distances, encode_distances
from vision_tasks.ops.boxes import area, generalized_iou
from vision_tasks.ops.detections import DetectionRule, Found
from vision_tasks.ops.matching import BACKGROUND, IGNORED
from vision_tasks.ops.semantic import logit
from vision_tasks.structures import Batch, Categories, Size

_RADIUS = 1.5  # centre sampling: a cell may be this many strides from the object's centre, on each axis
_NEAR, _FAR = 4, 8  # a level answers for objects whose farthest side is this many strides away


class FCOSHead(DenseHead):
    """Boxes of objects from cells. Losses: `class` (focal), `box` (GIoU), `centerness`, per positive cell of the batch.

    As in torchvision, the box branch also predicts centerness, distances are in units of the level's stride and pass a
    ReLU, and a score is the geometric mean of the probability of the class and the centerness.

    Args:
        in_channels: of every map. strides: of every level, pixels.
        outputs: class outputs; none of them is background. rule: of detection.
    """

    def __init__(
        self,
        categories: Categories,
        columns: Sequence[int],
        in_channels: int,
        levels: Sequence[str],
        strides: Sequence[int],
        outputs: int,
        rule: DetectionRule,
    ) -> None:
        super().__init__(categories, levels, columns, rule)
        if len(strides) != len(levels):
            raise ValueError(f"one stride per level: {len(levels)} levels {tuple(levels)}, {len(strides)} strides")
        for i, stride in enumerate(strides):
            self.register_buffer(f"cell{i}", cell_anchors((stride,), (1.0,)), persistent=False)
        self.class_tower = tower(in_channels, norm=True, bias=True)
        self.box_tower = tower(in_channels, norm=True, bias=True)
        self.class_logits = output_layer(in_channels, outputs, classes=True)
        self.distances = output_layer(in_channels, 4)
        self.centerness = output_layer(in_channels, 1)

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        return {"class_logits.weight": (1, 1), "class_logits.bias": (1, 1)}

    def maps(self, features: dict[str, Tensor], canvas: Size) -> DenseMaps:
        maps = DenseMaps([], [], [], [])
        for level in self.levels:
            x = features[level]
            maps.sizes.append((x.shape[-2], x.shape[-1]))
            maps.logits.append(by_anchor(self.class_logits(self.class_tower(x)), 1))
            hidden = self.box_tower(x)
            maps.boxes.append(by_anchor(F.relu(self.distances(hidden)), 1))
            maps.quality.append(by_anchor(self.centerness(hidden), 1))
        return maps

    def references(self, sizes: list[Size], canvas: Size) -> Tensor:
        return torch.cat(grid_anchors([getattr(self, f"cell{i}") for i in range(len(self.levels))], sizes, canvas))

    def scores(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        assert quality is not None
        return (logits[..., self.columns].sigmoid() * quality.sigmoid()).sqrt()

    def found(self, logits: Tensor, quality: Tensor | None) -> Found:
        assert quality is not None
        threshold = self.rule.score_threshold
        # No probability is above 1, so that of the class must exceed the square alone.
        rows, outputs, labels = labels_above(logits, logit(threshold**2), self.columns)
        scores = (logits[rows, outputs].float().sigmoid() * quality[rows, 0].float().sigmoid()).sqrt()
        return exceeding(Found(rows, labels, scores), threshold)

    def decode(self, boxes: Tensor, references: Tensor) -> Tensor:
        return decode_distances(boxes, references)

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None, "losses need targets"
        out = self.outputs(features, (batch.images.shape[-2], batch.images.shape[-1]))
        assert out.quality is not None
        references = out.references
        match = partial(_match, references, _farthest(references, out.lengths))
        truth = assign(batch.targets, self.columns, len(references), match)
        positive = truth.positive
        focal = sigmoid_focal_loss(out.logits, truth.classes(out.logits)).sum(-1)
        focal = weighed(focal, truth.columns, positive, self.output_weights)
        box = 1 - generalized_iou(self.decode(out.boxes, references), truth.boxes)
        wanted = _centerness(encode_distances(truth.boxes, references)).where(positive, 0)
        centerness = F.binary_cross_entropy_with_logits(out.quality[..., 0], wanted, reduction="none")
        count = positive.sum().clamp(min=1)
        return {
            "class": focal.where(truth.matches != IGNORED, 0).sum() / count,
            "box": box.where(positive, 0).sum() / count,
            "centerness": centerness.where(positive, 0).sum() / count,
        }


def _farthest(references: Tensor, lengths: Sequence[int]) -> Tensor:
    """(2, A): between which distances to its farthest side a cell answers for an object; open at both ends."""
    stride = references[:, 2] - references[:, 0]
    low, high = stride * _NEAR, stride * _FAR
    low[: lengths[0]] = 0
    high[len(high) - lengths[-1] :] = torch.inf
    return torch.stack((low, high))


def _match(references: Tensor, farthest: Tensor, truth: Tensor, real: Tensor) -> Tensor:
    """The smallest truth that a cell lies in, near its centre, and of its level's size (section 3.1 and 3.2).

    torchvision compares areas as 1e8 - area in float32, where those within 8 square pixels of each other are equal and
    the first of them wins; here the smaller one does.
    """
    centre = (references[:, :2] + references[:, 2:]) / 2
    stride = references[:, 2] - references[:, 0]
    middle = (truth[:, :2] + truth[:, 2:]) / 2
    near = (middle[:, None] - centre).abs().amax(-1) < _RADIUS * stride
    sides = torch.cat((centre - truth[:, None, :2], truth[:, None, 2:] - centre), dim=-1)  # (T, A, 4)
    distance = sides.amax(-1)
    fits = near & (sides.amin(-1) > 0) & (distance > farthest[0]) & (distance < farthest[1]) & real[:, None]
    smallest, index = torch.where(fits, area(truth)[:, None], torch.inf).min(dim=0)
    return torch.where(smallest.isfinite(), index, BACKGROUND)


def _centerness(sides: Tensor) -> Tensor:
    """(..., 4) left, top, right, bottom -> (...) in 0..1 (eq. 3); NaN where a side is negative."""
    ratios = torch.minimum(sides[..., :2], sides[..., 2:]) / torch.maximum(sides[..., :2], sides[..., 2:])
    return ratios.prod(-1).sqrt()
