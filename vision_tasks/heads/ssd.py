"""SSD (Liu et al. 2016): default boxes of several shapes on maps of several sizes, each map with its own predictors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops.misc import Conv2dNormActivation

from vision_tasks.heads.assignment import assign
from vision_tasks.heads.base import weighed
from vision_tasks.heads.dense import DenseHead, DenseMaps, exceeding, labels_above
from vision_tasks.heads.towers import by_anchor
from vision_tasks.ops.anchors import default_boxes, default_shapes
from vision_tasks.ops.box_coding import decode_boxes, encode_boxes
from vision_tasks.ops.boxes import pairwise_iou
from vision_tasks.ops.detections import DetectionRule, Found
from vision_tasks.ops.matching import BACKGROUND, hardest, match_each
from vision_tasks.structures import Batch, Categories, Size

DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # the inverse of the paper's code's variances 0.1 and 0.2


class SSDHead(DenseHead):
    """Boxes of objects from default boxes; softmax over the classes, output 0 being background.

    Losses: `class` (cross entropy of the positive boxes and of the hardest negative ones) and `box` (smooth L1), both
    per positive box of the batch. An image without objects has no positive box, so no negative one either, and teaches
    nothing.

    Args:
        in_channels: of every map it reads, by level, finest first.
        scales, aspect_ratios, strides: of the default boxes (`ops.anchors.default_shapes`, `default_boxes`).
        outputs: class outputs, background included. rule: what becomes of the scored boxes.
        separable: predictors are depthwise 3×3 and 1×1 convolutions (SSDLite), not plain 3×3 ones (SSD).
        layer: normalisation within separable predictors.
        foreground: overlap from which a default box answers for an object. negatives: per positive box, at most.
    """

    background = 0

    def __init__(
        self,
        categories: Categories,
        columns: Sequence[int],
        in_channels: Mapping[str, int],
        scales: Sequence[float],
        aspect_ratios: Sequence[Sequence[float]],
        outputs: int,
        rule: DetectionRule,
        strides: Sequence[int] | None = None,
        separable: bool = False,
        layer: Callable[..., nn.Module] = nn.BatchNorm2d,
        foreground: float = 0.5,
        negatives: float = 3.0,
    ) -> None:
        super().__init__(categories, tuple(in_channels), columns, rule)
        shapes = default_shapes(scales, aspect_ratios)
        if len(shapes) != len(in_channels) or (strides is not None and len(strides) != len(in_channels)):
            raise ValueError(f"as many ratios and strides as maps: {list(in_channels)}, {aspect_ratios}, {strides}")
        for i, shape in enumerate(shapes):
            self.register_buffer(f"shape{i}", shape, persistent=False)
        self.strides, self.foreground, self.negatives = strides, foreground, negatives
        self.boxes_per_cell = [len(shape) for shape in shapes]
        self.classes, self.deltas = nn.ModuleList(), nn.ModuleList()
        for channels, boxes in zip(in_channels.values(), self.boxes_per_cell, strict=True):
            for predictors, numbers in ((self.classes, outputs), (self.deltas, 4)):
                if separable:
                    predictors.append(separable_predictor(channels, boxes * numbers, layer))
                else:
                    predictors.append(nn.Conv2d(channels, boxes * numbers, 3, padding=1))

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        parameters: dict[str, tuple[int, int]] = {}
        for i, (predictor, boxes) in enumerate(zip(self.classes, self.boxes_per_cell, strict=True)):
            last = "" if isinstance(predictor, nn.Conv2d) else "1."
            parameters |= {f"classes.{i}.{last}{name}": (boxes, 1) for name in ("weight", "bias")}
        return parameters

    def maps(self, features: dict[str, Tensor], canvas: Size) -> DenseMaps:
        maps = DenseMaps([], [], [], [])
        for i, (level, boxes) in enumerate(zip(self.levels, self.boxes_per_cell, strict=True)):
            x = features[level]
            maps.sizes.append((x.shape[-2], x.shape[-1]))
            maps.logits.append(by_anchor(self.classes[i](x), boxes))
            maps.boxes.append(by_anchor(self.deltas[i](x), boxes))
        return maps

    def references(self, sizes: list[Size], canvas: Size) -> Tensor:
        shapes = [getattr(self, f"shape{i}") for i in range(len(self.levels))]
        return torch.cat(default_boxes(shapes, sizes, canvas, self.strides))

    def scores(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        return logits.softmax(dim=-1)[..., self.columns]

    def found(self, logits: Tensor, quality: Tensor | None) -> Found:
        # Picking the columns of all boxes would copy them.
        every, threshold = logits.float().softmax(dim=-1), self.rule.score_threshold
        rows, outputs, labels = labels_above(every, threshold, self.columns)
        return exceeding(Found(rows, labels, every[rows, outputs]), threshold)

    def decode(self, boxes: Tensor, references: Tensor) -> Tensor:
        return decode_boxes(boxes, references, DELTA_WEIGHTS)

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None, "losses need targets"
        out = self.outputs(features, (batch.images.shape[-2], batch.images.shape[-1]))
        truth = assign(batch.targets, self.columns, len(out.references), partial(self._match, out.references))
        positive = truth.positive
        wanted = torch.where(positive, truth.columns, self.background)
        entropy = F.cross_entropy(out.logits.flatten(0, 1), wanted.flatten(), reduction="none").view_as(wanted)
        negative = truth.matches == BACKGROUND
        mined = hardest(entropy.detach(), negative, self.negatives * positive.sum(dim=1))
        entropy = weighed(entropy, truth.columns, positive, self.output_weights)
        deltas = encode_boxes(truth.boxes, out.references, DELTA_WEIGHTS)
        rows = positive[..., None]
        box = F.smooth_l1_loss(out.boxes.where(rows, 0), deltas.where(rows, 0), reduction="sum")
        count = positive.sum().clamp(min=1)
        return {"class": entropy.where(positive | mined, 0).sum() / count, "box": box / count}

    def _match(self, boxes: Tensor, truth: Tensor, real: Tensor) -> Tensor:
        return match_each(torch.where(real[:, None], pairwise_iou(truth, boxes), -1), self.foreground)


def separable_predictor(channels: int, outputs: int, layer: Callable[..., nn.Module]) -> nn.Module:
    """Depthwise 3×3 with normalisation and ReLU6, then 1×1 (SSDLite: MobileNetV2, section 6.2)."""
    return nn.Sequential(
        Conv2dNormActivation(channels, channels, 3, groups=channels, norm_layer=layer, activation_layer=nn.ReLU6),
        nn.Conv2d(channels, outputs, 1),
    )
