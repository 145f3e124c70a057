"""YOLOX's decoupled head (Ge et al. 2021): one box a cell, no anchors, classes and boxes on separate convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.heads.base import weighed
from vision_tasks.heads.dense import DenseHead, DenseMaps, exceeding, rounded_down
from vision_tasks.heads.rpn import learnable
from vision_tasks.heads.towers import by_anchor
from vision_tasks.ops.boxes import cxcywh_to_xyxy, iou, xyxy_to_cxcywh
from vision_tasks.ops.csp import ConvBlock, spatial_block
from vision_tasks.ops.detections import DetectionRule, Found, above
from vision_tasks.ops.matching import BACKGROUND
from vision_tasks.ops.semantic import logit
from vision_tasks.ops.sim_ota import sim_ota
from vision_tasks.structures import Batch, Categories, Size, Target

MAX_LOG_SIZE = 10.0
"""No box is wider than e**10 strides, 176,000 pixels on the finest level: an untrained output must not overflow."""

PRIOR = 0.01  # probability that objectness and classes start from, so that the many empty cells cost little


class YOLOXHead(DenseHead):
    """Boxes of objects. Losses: `box`, `objectness`, `class`, `l1`, each summed and divided by the matched cells.

    A cell predicts one box, an objectness, and the classes; its score for a class is the product of both probabilities,
    and only its best class comes out, as in YOLOX's postprocessing.

    Attributes:
        use_l1: whether the loss `l1` counts (it is 0 otherwise). YOLOX switches it on for its last epochs, when mosaic
            and mixup are off; whoever trains sets it. Not part of a checkpoint.
    """

    def __init__(
        self,
        categories: Categories,
        levels: Sequence[str],
        columns: Sequence[int],
        rule: DetectionRule,
        in_channels: Sequence[int],
        strides: Sequence[int],
        channels: int,
        outputs: int,
        depthwise: bool = False,
        box_weight: float = 5.0,
        center_radius: float = 2.5,
    ) -> None:
        """
        Args:
            in_channels, strides: of each level's map, finest first. channels: width of the head.
            outputs: class outputs. depthwise: whether 3×3 convolutions are depthwise.
            box_weight: of the loss `box`, part of YOLOX's definition. center_radius: see `ops.sim_ota`.
        """
        super().__init__(categories, levels, columns, rule)
        self.strides = tuple(strides)
        self.box_weight, self.center_radius = box_weight, center_radius
        self.use_l1 = False
        self.stems = nn.ModuleList(ConvBlock(width, channels, 1) for width in in_channels)
        self.class_convs, self.box_convs = (
            nn.ModuleList(
                nn.Sequential(*(spatial_block(channels, channels, 3, depthwise=depthwise) for _ in range(2)))
                for _ in in_channels
            )
            for _ in range(2)
        )
        self.classes, self.boxes, self.objectness = (
            nn.ModuleList(nn.Conv2d(channels, width, 1) for _ in in_channels) for width in (outputs, 4, 1)
        )
        for layer in (*self.classes, *self.objectness):
            nn.init.constant_(layer.bias, -math.log((1 - PRIOR) / PRIOR))

    def maps(self, features: dict[str, Tensor], canvas: Size) -> DenseMaps:
        maps = DenseMaps([], [], [], [])
        for i, level in enumerate(self.levels):
            stem = self.stems[i](features[level])
            box_map = self.box_convs[i](stem)
            maps.sizes.append((stem.shape[-2], stem.shape[-1]))
            maps.logits.append(by_anchor(self.classes[i](self.class_convs[i](stem)), 1))
            maps.boxes.append(by_anchor(self.boxes[i](box_map), 1))
            maps.quality.append(by_anchor(self.objectness[i](box_map), 1))
        return maps

    def references(self, sizes: list[Size], canvas: Size) -> Tensor:
        """The cells themselves, row by row, corners in network pixels."""
        return torch.cat(
            [_cells(*size, stride, self.columns.device) for size, stride in zip(sizes, self.strides, strict=True)]
        )

    def scores(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        """(..., C) class and (..., 1) objectness logits -> (..., K): a cell's best class, and 0 for all others."""
        assert quality is not None
        logits = logits[..., self.columns]
        best, label = logits.max(dim=-1, keepdim=True)
        return torch.zeros_like(logits).scatter(-1, label, best.sigmoid() * quality.sigmoid())

    def found(self, logits: Tensor, quality: Tensor | None) -> Found:
        assert quality is not None
        threshold = self.rule.score_threshold
        rows, _ = above(quality, rounded_down(logit(threshold)))  # of the others no class can exceed it
        best, labels = logits[rows].float()[:, self.columns].max(dim=-1)
        return exceeding(Found(rows, labels, best.sigmoid() * quality[rows, 0].float().sigmoid()), threshold)

    def decode(self, boxes: Tensor, references: Tensor) -> Tensor:
        """The centre's offset from the cell's corner, and the logarithms of width and height, in strides -> corners."""
        stride = references[..., 2:] - references[..., :2]
        centers = boxes[..., :2] * stride + references[..., :2]
        sizes = boxes[..., 2:].clamp(max=MAX_LOG_SIZE).exp() * stride
        return cxcywh_to_xyxy(torch.cat((centers, sizes), dim=-1))

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        return {f"classes.{i}.{name}": (1, 1) for i in range(len(self.classes)) for name in ("weight", "bias")}

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """IoU loss (1 - IoU²) and, with `use_l1`, L1 of the matched boxes; cross entropies of objectness and classes.

        The class a matched cell should say has its overlap as the target, not 1 (YOLOX's code).
        """
        assert batch.targets is not None, "losses need targets"
        out = self.outputs(features, (batch.images.shape[-2], batch.images.shape[-1]))
        assert out.quality is not None
        boxes = self.decode(out.boxes, out.references)
        zero = out.logits.new_zeros(())
        found = {"box": boxes.sum() * 0, "objectness": out.quality.sum() * 0, "class": out.logits.sum() * 0, "l1": zero}
        matched = zero
        for i, target in enumerate(batch.targets):
            if target.boxes is None:  # nobody looked for objects here: nothing to learn from
                continue
            losses, count = self._image_losses(
                out.logits[i], out.quality[i, :, 0], boxes[i], out.boxes[i], out.references, target
            )
            found = {name: found[name] + loss for name, loss in losses.items()}
            matched = matched + count
        return {name: loss / matched.clamp(min=1) for name, loss in found.items()}

    def _image_losses(
        self, logits: Tensor, objectness: Tensor, boxes: Tensor, raw: Tensor, cells: Tensor, target: Target
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Sums of one image's losses by name, and how many cells matched."""
        assert target.labels is not None
        truth, real = learnable(target)
        outputs = self.columns[target.labels] if len(target.labels) else truth.new_zeros(1, dtype=torch.int64)
        matches = sim_ota(logits, objectness, boxes, cells, truth, outputs, real, self.center_radius)
        positive = matches > BACKGROUND
        # At most ten cells a truth: so many rows hold all that matched, without asking the device how many there are.
        valid, rows = positive.float().topk(min(10 * len(truth), len(cells)))
        match = matches[rows].clamp(min=0)
        wanted = truth[match]
        overlap = iou(boxes[rows], wanted)
        class_target = torch.zeros_like(logits[rows]).scatter(1, outputs[match][:, None], overlap.detach()[:, None])
        classes = F.binary_cross_entropy_with_logits(logits[rows], class_target, reduction="none").sum(dim=1)
        classes = weighed(classes, outputs[match], None, self.output_weights)
        losses = {
            "box": self.box_weight * ((1 - overlap**2) * valid).sum(),
            "objectness": F.binary_cross_entropy_with_logits(objectness, positive.to(objectness), reduction="sum"),
            "class": (classes * valid).sum(),
            "l1": logits.new_zeros(()),
        }
        if self.use_l1:
            apart = (raw[rows] - encode_cells(wanted, cells[rows])).abs().sum(dim=1)
            losses["l1"] = (apart * valid).sum()
        return losses, valid.sum()


def encode_cells(boxes: Tensor, cells: Tensor) -> Tensor:
    """What a cell should say to mean a box: the inverse of `YOLOXHead.decode`. (..., 4), (..., 4) -> (..., 4).

    A box without extent gives the logarithm of 1e-8, as in YOLOX.
    """
    stride = cells[..., 2:] - cells[..., :2]
    box = xyxy_to_cxcywh(boxes)
    centers = (box[..., :2] - cells[..., :2]) / stride
    return torch.cat((centers, (box[..., 2:].clamp(min=0) / stride + 1e-8).log()), dim=-1)


def _cells(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """(height * width, 4) float32 corners of the cells of one level, row by row."""
    y = torch.arange(height, device=device, dtype=torch.float32) * stride
    x = torch.arange(width, device=device, dtype=torch.float32) * stride
    corner = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(-1, 2)
    return torch.cat((corner, corner + stride), dim=1)
