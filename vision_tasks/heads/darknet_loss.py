"""What a yolo layer is taught about one image: YOLOv3's loss, with the box losses of YOLOv4.

Each function gives a sum, as Darknet adds up gradients. With respect to the outputs of the network the gradients of the
"mse" loss equal those that Darknet writes down without naming a loss, truths that share a cell and an anchor aside.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vision_tasks.heads.base import weighed
from vision_tasks.heads.rpn import learnable
from vision_tasks.ops import boxes as box_ops
from vision_tasks.structures import Target

BOX_LOSSES = {
    "iou": box_ops.iou,
    "giou": box_ops.generalized_iou,
    "diou": box_ops.distance_iou,
    "ciou": box_ops.complete_iou,
}
"""Overlaps by the names that `iou_loss=` has for them; the loss is 1 minus the overlap."""


@dataclass(frozen=True)
class MatchRule:
    """Which predictions answer for a truth.

    Attributes:
        anchors: (width, height) in network pixels, those of all yolo layers. mask: which of them are this layer's.
        ignore, truth: overlap above which a prediction is not called background, and above which it answers for the
            truth (1: never). anchor: overlap above which an anchor answers beside the best one (1: never).
    """

    anchors: tuple[tuple[float, float], ...]
    mask: tuple[int, ...]
    ignore: float
    truth: float
    anchor: float


@dataclass
class Match:
    """Pairs of a truth and a prediction of one layer. Their number depends on the shapes alone, so nothing waits for
    the host; `weight` says which of them count.

    Attributes:
        rows: (P,) prediction. boxes: (P, 4) truth, corners in network pixels. columns: (P,) its class output.
        weight: (P,) 1.0 or 0.0. ignored: (A,) bool, predictions that are neither object nor background.
    """

    rows: Tensor
    boxes: Tensor
    columns: Tensor
    weight: Tensor
    ignored: Tensor


@torch.no_grad()
def match(
    target: Target, columns: Tensor, rule: MatchRule, grid: tuple[int, int], canvas: tuple[int, int], predicted: Tensor
) -> Match:
    """Pair truths with the predictions that answer for them (YOLOv3, section 2.1; Darknet's `iou_thresh`).

    A truth belongs to the cell its centre is in and to the anchor whose shape overlaps its own best, of all anchors of
    all layers: in the layers that lack that anchor nobody answers.

    Args:
        target: an annotated image. columns: (K,) class output of each label.
        grid: (height, width) of the map. canvas: (height, width) in pixels.
        predicted: (A, 4) corners, cells in row-major order, the anchors of a cell together.
    """
    truth, real = learnable(target)
    assert target.labels is not None
    labels = columns[target.labels] if len(target.labels) else columns.new_zeros(1)
    sides = truth[:, 2:] - truth[:, :2]
    anchors = torch.tensor(rule.anchors, device=truth.device, dtype=truth.dtype)
    overlap = box_ops.pairwise_iou(F.pad(sides, (2, 0)), F.pad(anchors, (2, 0)))  # both with a corner at the origin
    mask = torch.tensor(rule.mask, device=truth.device)
    answers = (overlap.argmax(dim=1, keepdim=True) == mask) | (overlap[:, mask] > rule.anchor)  # (T, n)
    step = truth.new_tensor((canvas[1] / grid[1], canvas[0] / grid[0]))
    cell = ((truth[:, :2] + truth[:, 2:]) / 2 / step).long()
    column, row = cell[:, 0].clamp(0, grid[1] - 1), cell[:, 1].clamp(0, grid[0] - 1)
    rows = (row * grid[1] + column)[:, None] * len(mask) + torch.arange(len(mask), device=truth.device)
    weight = (answers & real[:, None]).float()

    # A crowd's box is no object to learn, but who sees one there is not wrong.
    existing = truth if len(target.labels) else truth.new_zeros((1, 4))
    overlaps = box_ops.pairwise_iou(existing, predicted)
    matched = Match(
        rows.flatten(),
        truth[:, None].expand(-1, len(mask), -1).reshape(-1, 4),
        labels[:, None].expand(-1, len(mask)).flatten(),
        weight.flatten(),
        (overlaps > rule.ignore).any(dim=0),
    )
    if rule.truth < 1:
        best, index = torch.where(real[:, None], overlaps, -1.0).max(dim=0)
        matched = Match(
            torch.cat((matched.rows, torch.arange(len(predicted), device=truth.device))),
            torch.cat((matched.boxes, truth[index])),
            torch.cat((matched.columns, labels[index])),
            torch.cat((matched.weight, (best > rule.truth).float())),
            matched.ignored,
        )
    return matched


def objectness_loss(logits: Tensor, matched: Match) -> Tensor:
    """Binary cross entropy of (A,) logits: 1 where a truth is answered for, nothing where ignored, 0 elsewhere."""
    object_here = torch.zeros_like(logits).index_add_(0, matched.rows, matched.weight).clamp(max=1)
    counts = torch.maximum(object_here, (~matched.ignored).float())
    return (F.binary_cross_entropy_with_logits(logits, object_here, reduction="none") * counts).sum()


def class_loss(logits: Tensor, matched: Match, weights: Tensor | None = None) -> Tensor:
    """Binary cross entropy of (A, C) logits where a truth is answered for.

    Truths that share a prediction are all wanted of it, and it counts once. weights: `Head.output_weights`.
    """
    truths = logits.new_zeros(len(logits)).index_add_(0, matched.rows, matched.weight)[matched.rows]
    wanted = torch.zeros_like(logits).index_put_(
        (matched.rows, matched.columns), matched.weight, accumulate=True
    )[matched.rows].clamp(max=1)  # fmt: skip
    weight = matched.weight / truths.clamp(min=1)
    loss = F.binary_cross_entropy_with_logits(logits[matched.rows], wanted, reduction="none")
    return (weighed(loss.sum(dim=1), matched.columns, None, weights) * weight).sum()


def overlap_loss(kind: str, predicted: Tensor, matched: Match) -> Tensor:
    """1 minus the overlap, by a name in `BOX_LOSSES`, of (A, 4) corners with the truths they answer for."""
    loss = 1 - BOX_LOSSES[kind](predicted[matched.rows], matched.boxes)
    return (loss * matched.weight).sum()


def output_loss(
    outputs: Tensor, anchors: Tensor, matched: Match, step: tuple[float, float], canvas: tuple[int, int],
    growth: float, squared: bool,
) -> Tensor:  # fmt: skip
    """YOLOv3's loss of the four box outputs: cross entropy of the centre, half the squared error of the sides.

    Weighted by 2 minus the truth's share of the canvas, so that small boxes count more.

    Args:
        outputs: (A, 4) of the network. anchors: (A, 4) centre of the cell and sides, in pixels.
        step: (x, y) pixels per cell. growth: `scale_x_y`. squared: whether sides are 4 sigmoid² (`new_coords`).
    """
    raw, reference = outputs[matched.rows], anchors[matched.rows]
    truth = box_ops.xyxy_to_cxcywh(matched.boxes)
    # Where in its cell the centre lies, 0..1, and the sigmoid that says so.
    place = (truth[:, :2] - reference[:, :2]) / truth.new_tensor(step) + 0.5
    wanted = ((place - 0.5) / growth + 0.5).clamp(0, 1)
    centre = growth * F.binary_cross_entropy_with_logits(raw[:, :2], wanted, reduction="none")
    ratio = truth[:, 2:].clamp(min=1e-3) / reference[:, 2:]  # a thousandth of a pixel keeps the logarithm finite
    error = raw[:, 2:].sigmoid() - (ratio / 4).sqrt() if squared else raw[:, 2:] - ratio.log()
    scale = 2 - truth[:, 2] * truth[:, 3] / (canvas[0] * canvas[1])
    return ((centre + 0.5 * error**2).sum(dim=1) * scale * matched.weight).sum()
