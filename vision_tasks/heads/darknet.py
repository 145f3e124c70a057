"""The yolo layers of a Darknet network as one head (Redmon and Farhadi 2018; Bochkovskiy et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vision_tasks.heads import darknet_loss
from vision_tasks.heads.dense import DenseHead, DenseMaps, rounded_down
from vision_tasks.ops.boxes import cxcywh_to_xyxy
from vision_tasks.ops.detections import DetectionRule, Found, above
from vision_tasks.ops.semantic import logit
from vision_tasks.structures import Batch, Categories, Size

_MOST_GROWTH = 10.0  # exp of more would leave float32 once it is squared; no object is 22,026 anchors wide


@dataclass(frozen=True)
class YoloLayer:
    """A `[yolo]` section and the convolution before it.

    Attributes:
        level: name of the map it reads. channels: of that map. kernel, padding: of the convolution, in pixels.
        anchors: (width, height) in network pixels, those of all yolo layers. mask: which of them are this layer's.
        scale_x_y: how far a centre may leave its cell: 1 is not at all, 1.2 a tenth of a cell (YOLOv4's grid factor).
        new_coords: sides are 4 sigmoid² of the anchor's instead of its exponential.
        ignore_thresh, truth_thresh, iou_thresh: see `darknet_loss.MatchRule`: ignore, truth and anchor.
        iou_loss: "mse" of the outputs, or of the boxes a name in `darknet_loss.BOX_LOSSES`.
        iou_normalizer, obj_normalizer, cls_normalizer: weights of the three losses.
    """

    level: str
    channels: int
    kernel: int
    padding: int
    anchors: tuple[tuple[float, float], ...]
    mask: tuple[int, ...]
    scale_x_y: float = 1.0
    new_coords: bool = False
    ignore_thresh: float = 0.5
    truth_thresh: float = 1.0
    iou_thresh: float = 1.0
    iou_loss: str = "mse"
    iou_normalizer: float = 1.0
    obj_normalizer: float = 1.0
    cls_normalizer: float = 1.0

    @property
    def rule(self) -> darknet_loss.MatchRule:
        """What the loss wants to know of it."""
        return darknet_loss.MatchRule(self.anchors, self.mask, self.ignore_thresh, self.truth_thresh, self.iou_thresh)


class Predictor(nn.Module):
    """The three kinds of output of a yolo layer, each from a convolution of its own.

    Darknet keeps them in one. Apart, a fine-tune with other categories keeps boxes and objectness as they are.
    """

    def __init__(self, layer: YoloLayer, outputs: int) -> None:
        super().__init__()
        count = len(layer.mask)
        self.boxes = nn.Conv2d(layer.channels, 4 * count, layer.kernel, padding=layer.padding)
        self.objectness = nn.Conv2d(layer.channels, count, layer.kernel, padding=layer.padding)
        self.classes = nn.Conv2d(layer.channels, outputs * count, layer.kernel, padding=layer.padding)
        for conv in (self.boxes, self.objectness, self.classes):
            nn.init.normal_(conv.weight, std=0.01)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        # As in RetinaNet: of thousands of cells a handful hold an object, so a new head begins by expecting 1 in 100.
        assert self.objectness.bias is not None
        nn.init.constant_(self.objectness.bias, -math.log(99))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, A, 4), objectness (B, A, 1) and classes (B, A, C), float32; a cell's n anchors together."""
        boxes, objectness, classes = (
            conv(x).unflatten(1, (self.objectness.out_channels, -1)).permute(0, 3, 4, 1, 2).flatten(1, 3).float()
            for conv in (self.boxes, self.objectness, self.classes)
        )
        return boxes, objectness, classes


class DarknetHead(DenseHead):
    """Boxes of objects. Losses: `box`, `objectness`, `class`, each a sum per image, as in Darknet.

    A score is objectness times class probability; a box may be reported under several classes.
    """

    def __init__(
        self,
        categories: Categories,
        columns: Sequence[int],
        layers: Sequence[YoloLayer],
        outputs: int,
        rule: DetectionRule,
    ) -> None:
        """
        Args:
            columns: class output of each category. layers: finest first. outputs: class outputs per anchor.
        """
        super().__init__(categories, [layer.level for layer in layers], columns, rule)
        self.layers = tuple(layers)
        for layer in layers:
            self.add_module(layer.level, Predictor(layer, outputs))

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        return {
            f"{layer.level}.classes.{kind}": (len(layer.mask), 1)
            for layer in self.layers
            for kind in ("weight", "bias")
        }

    def maps(self, features: dict[str, Tensor], canvas: Size) -> DenseMaps:
        levels = self._levels(features, canvas)
        return DenseMaps(
            [level.classes for level in levels],
            [level.moves for level in levels],
            [level.objectness for level in levels],
            [level.grid for level in levels],
        )

    def references(self, sizes: list[Size], canvas: Size) -> Tensor:
        pairs = zip(self.layers, sizes, strict=True)
        return torch.cat([_anchors(layer, size, canvas, self.columns.device) for layer, size in pairs])

    def scores(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        assert quality is not None
        return logits[..., self.columns].sigmoid() * quality.sigmoid()

    def found(self, logits: Tensor, quality: Tensor | None) -> Found:
        assert quality is not None
        threshold = self.rule.score_threshold
        some, _ = above(quality, rounded_down(logit(threshold)))  # of the others no class can exceed it
        part = super().found(logits[some], quality[some])
        return Found(some[part.rows], part.labels, part.scores)

    def decode(self, boxes: Tensor, references: Tensor) -> Tensor:
        """Shift of the centre in pixels and factors of the sides, and anchors as (cx, cy, w, h) -> corners."""
        return cxcywh_to_xyxy(
            torch.cat((references[..., :2] + boxes[..., :2], references[..., 2:] * boxes[..., 2:]), -1)
        )

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None, "losses need targets"
        canvas = (batch.images.shape[-2], batch.images.shape[-1])
        levels = self._levels(features, canvas)
        # Zeros that give every parameter a gradient, also where nobody annotated any image of a rank's batch.
        box = torch.stack([level.outputs.sum() * 0 for level in levels]).sum()
        objectness = torch.stack([level.objectness.sum() * 0 for level in levels]).sum()
        classes = torch.stack([level.classes.sum() * 0 for level in levels]).sum()
        annotated = [i for i, target in enumerate(batch.targets) if target.boxes is not None]
        for i in annotated:
            for layer, level in zip(self.layers, levels, strict=True):
                predicted = self.decode(level.moves[i], level.anchors)
                matched = darknet_loss.match(
                    batch.targets[i], self.columns, layer.rule, level.grid, canvas, predicted.detach()
                )
                if layer.iou_loss == "mse":
                    loss = darknet_loss.output_loss(
                        level.outputs[i], level.anchors, matched, level.step, canvas, layer.scale_x_y, layer.new_coords
                    )
                else:
                    loss = darknet_loss.overlap_loss(layer.iou_loss, predicted, matched)
                box = box + layer.iou_normalizer * loss
                logits = level.objectness[i, :, 0]
                objectness = objectness + layer.obj_normalizer * darknet_loss.objectness_loss(logits, matched)
                classes = classes + layer.cls_normalizer * darknet_loss.class_loss(
                    level.classes[i], matched, self.output_weights
                )
        count = max(len(annotated), 1)
        return {"box": box / count, "objectness": objectness / count, "class": classes / count}

    def _levels(self, features: dict[str, Tensor], canvas: tuple[int, int]) -> list[_Level]:
        return [
            _Level.of(layer, self.get_submodule(layer.level), features[layer.level], canvas) for layer in self.layers
        ]


@dataclass
class _Level:
    """What one yolo layer says. A cell's n anchors stand together, the cells in row-major order, A = h × w × n.

    Attributes:
        outputs: (B, A, 4) of the network. objectness: (B, A, 1) logits. classes: (B, A, C) logits.
        moves: (B, A, 4) what `DarknetHead.decode` wants. anchors: (A, 4) as cx, cy, w, h in pixels.
        grid: (height, width) of the map. step: (x, y) pixels per cell.
    """

    outputs: Tensor
    objectness: Tensor
    classes: Tensor
    moves: Tensor
    anchors: Tensor
    grid: tuple[int, int]
    step: tuple[float, float]

    @classmethod
    def of(cls, layer: YoloLayer, predictor: nn.Module, x: Tensor, canvas: tuple[int, int]) -> _Level:
        outputs, objectness, classes = predictor(x)
        height, width = x.shape[-2], x.shape[-1]
        anchors = _anchors(layer, (height, width), canvas, x.device)
        step = (canvas[1] / width, canvas[0] / height)
        shift = (outputs[..., :2].sigmoid() - 0.5) * layer.scale_x_y
        shift = torch.stack((shift[..., 0] * step[0], shift[..., 1] * step[1]), -1)
        if layer.new_coords:
            factor = 4 * outputs[..., 2:].sigmoid() ** 2
        else:
            factor = outputs[..., 2:].clamp(max=_MOST_GROWTH).exp()
        return cls(outputs, objectness, classes, torch.cat((shift, factor), -1), anchors, (height, width), step)


def _anchors(layer: YoloLayer, size: Size, canvas: Size, device: torch.device) -> Tensor:
    """(h * w * n, 4) float32 anchors as cx, cy, w, h in pixels: a cell's n together, the cells in row-major order.

    The map may be a little finer or coarser than the stride says: Darknet spreads its cells over the canvas.
    """
    height, width = size
    ys = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * (canvas[0] / height)
    xs = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * (canvas[1] / width)
    sides = torch.tensor([layer.anchors[i] for i in layer.mask], device=device)
    centres = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)[:, :, None].expand(-1, -1, len(sides), -1)
    return torch.cat((centres, sides.expand(height, width, -1, -1)), -1).flatten(0, 2)
