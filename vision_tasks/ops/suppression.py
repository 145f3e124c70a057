"""Which of many overlapping boxes stay: the one place where boxes are suppressed."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from vision_tasks.ops.boxes import distance_iou, iou

Method = Literal["nms", "agnostic", "diou", "soft_linear", "soft_gaussian"]
"""How overlapping boxes are thinned.

nms: greedy, within each group (class). agnostic: greedy, over all groups together. diou: greedy by DIoU, which spares
boxes whose centres are apart (Zheng et al. 2020, eq. 14). soft_linear, soft_gaussian: overlapping boxes lose score
instead of being dropped (Bodla et al. 2017, eq. 2 and 3, sigma 0.5).
"""

METHODS: tuple[str, ...] = get_args(Method)

_SIGMA = 0.5  # Bodla et al. 2017, section 4: the value their experiments use


def suppress(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    iou_threshold: float,
    top_k: int | None = None,
    method: Method = "nms",
) -> tuple[Tensor, Tensor]:
    """Thin overlapping boxes; always in float32, in memory proportional to N.

    Args:
        boxes: (N, 4) corners in pixels. scores: (N,) in 0..1. groups: (N,) int64, a class or a pyramid level;
            boxes of different groups leave each other alone (except by "agnostic").
        iou_threshold: a box is dropped if it overlaps a better one by more than this. "soft_linear" lowers the score
            of those instead, "soft_gaussian" has no threshold.
        top_k: boxes to keep at most; None keeps all that survive.

    Returns:
        Indices of the kept boxes, best score first, (M,) int64, and their scores (M,), which only the soft methods
        change.
    """
    # Autocast would otherwise run IoU in bfloat16, where 0.5 and 0.503 are the same number.
    with torch.autocast(boxes.device.type, enabled=False):
        boxes, scores = boxes.float(), scores.float()
        if method in ("nms", "agnostic"):
            kept = _greedy(boxes, scores, groups if method == "nms" else None, iou_threshold, top_k)
            return kept, scores[kept]
        rounds = len(boxes) if top_k is None else min(top_k, len(boxes))
        index, left = _one_by_one(boxes, scores, groups, iou_threshold, rounds, method, fixed=False)
        alive = left > 0
        return index[alive], left[alive]


def suppress_fixed(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, top_k: int, method: Method = "nms"
) -> tuple[Tensor, Tensor]:
    """`suppress` with an output of fixed shape, for `torch.export`.

    Args:
        boxes: (N, 4). scores: (N,); entries that are no boxes at all have a score of 0 or less. groups: (N,).

    Returns:
        Indices (top_k,) and scores (top_k,), best first; where nothing is left the score is 0 (and the index means
        nothing).
    """
    with torch.autocast(boxes.device.type, enabled=False):
        boxes, scores = boxes.float(), scores.float()
        if method not in ("nms", "agnostic"):
            return _one_by_one(boxes, scores, groups, iou_threshold, top_k, method, fixed=True)
        apart = boxes
        if method == "nms":
            # Groups are moved so far apart that they cannot overlap; `batched_nms` does so, too, for few boxes. What
            # is no box must not widen the distance: float32 knows no fractions of a pixel far out.
            apart = _from_zero(torch.where(scores[:, None] > 0, boxes, 0))
            apart = apart + (groups.float() * (apart.max() + 1))[:, None]
        kept = nms(apart, scores, iou_threshold)
        # As many zeros as may be missing, then cut: a fixed shape out of one known only at run time.
        index = torch.cat((kept, kept.new_zeros(top_k)))[:top_k]
        real = torch.arange(top_k, device=boxes.device) < kept.shape[0]
        return index, torch.where(real, scores[index], 0).clamp(min=0)


def select(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    *,
    iou_threshold: float,
    top_k: int,
    min_size: float = 0.0,
    method: Method = "nms",
) -> tuple[Tensor, Tensor]:
    """Drop boxes with a side shorter than `min_size`, suppress, and keep the best `top_k`.

    Args:
        boxes: (N, 4) corners in pixels, clipped to the image. scores: (N,). groups: (N,) int64.

    Returns:
        Indices of the chosen boxes, best score first, (M,) int64 with M <= top_k, and their scores (M,).
    """
    large = ((boxes[:, 2:] - boxes[:, :2]) >= min_size).all(dim=1).nonzero().flatten()
    kept, kept_scores = suppress(boxes[large], scores[large], groups[large], iou_threshold, top_k, method)
    return large[kept], kept_scores


def _from_zero(boxes: Tensor) -> Tensor:
    """Boxes moved so that no coordinate is negative; else groups moved apart by the largest one could still touch."""
    return boxes - boxes.min().clamp(max=0)


def _greedy(boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float, top_k: int | None) -> Tensor:
    """Indices of the boxes that greedy suppression keeps, best first."""
    if groups is not None and len(boxes):
        boxes = _from_zero(boxes)
    if top_k:
        # A box's fate depends on better ones alone, so if the best few leave enough, the others need not be looked at:
        # SSDLite's 24,000 candidates for 300 detections take a hundredth of the time.
        few = 4 * top_k
        while 2 * few < len(boxes):
            best = scores.topk(few).indices
            kept = best[_apart(boxes[best], scores[best], None if groups is None else groups[best], iou_threshold)]
            if len(kept) >= top_k:
                return kept[:top_k]
            few *= 4
    if groups is None:
        every: Tensor = nms(boxes, scores, iou_threshold)
    elif boxes.device.type == "cpu" and _MANY < len(boxes) <= 4 * _MANY:
        every = _apart(boxes, scores, groups, iou_threshold)
    else:
        every = batched_nms(boxes, scores, groups, iou_threshold)
    return every[:top_k]


_MANY = 1000  # boxes from which on `batched_nms` makes one call for each group on a CPU


def _apart(boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float) -> Tensor:
    """Greedy suppression in one call: groups are moved apart. Float64 knows fractions of a pixel there."""
    boxes = boxes.double()
    if groups is not None:
        boxes = boxes + (groups * (boxes.max() + 1))[:, None]
    kept: Tensor = nms(boxes, scores.double(), iou_threshold)
    return kept


def _one_by_one(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, rounds: int, method: Method, fixed: bool
) -> tuple[Tensor, Tensor]:
    """Take the best box, lower or drop what overlaps it, and again: indices and scores, 0 where none is left.

    Each round costs memory and time in proportion to N, and there are as many as boxes kept, not as boxes. Without
    `fixed` a CPU stops as soon as nothing is left; a GPU would have to wait for the answer.
    """
    left = scores.clamp(min=0)
    places = torch.arange(len(boxes), device=boxes.device)
    picked, got = [], []
    for _ in range(rounds):
        score, best = left.max(dim=0)
        if not fixed and score.device.type == "cpu" and score <= 0:
            break
        picked.append(best)
        got.append(score)
        one = boxes[best][None]
        if method == "diou":
            factor = (distance_iou(one, boxes) <= iou_threshold).float()
        elif method == "soft_linear":
            overlap = iou(one, boxes)
            factor = torch.where(overlap > iou_threshold, 1 - overlap, 1)
        else:
            factor = torch.exp(-(iou(one, boxes) ** 2) / _SIGMA)
        left = torch.where(groups == groups[best], left * factor, left)
        left = torch.where(places == best, 0, left)
    if not picked:
        return places[:0], scores[:0]
    return torch.stack(picked), torch.stack(got)
