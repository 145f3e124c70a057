"""Predictions of one image from several looks at it made into one: boxes by `ops.fusion`, masks along with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional as F

from vision_tasks.ops.fusion import Fused, completed, joining, non_maximum_merging, suppression
from vision_tasks.ops.masks import to_rles
from vision_tasks.ops.suppression import suppress
from vision_tasks.ops.weighted_fusion import weighted_boxes_fusion
from vision_tasks.structures import Masks, Polygons, Prediction, Rle

Fusing = Literal["wbf", "nms", "soft_linear", "soft_gaussian"]
"""How several opinions on the same pixels (mirror images, scales, models) become one.

wbf: weighted boxes fusion; boxes, masks and scores become means, and what few saw scores less. nms: the best of
those that overlap stays. soft_linear, soft_gaussian: those that overlap it lose score (Bodla et al. 2017).
"""

Merging = Literal["join", "nms", "nmm", "wbf"]
"""How what overlapping tiles found becomes one.

join: suppression that compares boxes where both tiles saw, and completes those that a tile's edge cuts off. nms:
suppression by intersection over the smaller box. nmm: the same, but boxes grow over what they suppress: SAHI's.
wbf: weighted boxes fusion.
"""

FUSINGS: tuple[str, ...] = get_args(Fusing)
MERGINGS: tuple[str, ...] = get_args(Merging)


def fuse(
    parts: Sequence[Prediction],
    method: Fusing = "wbf",
    threshold: float = 0.55,
    weights: Sequence[float] | None = None,
    agnostic: bool = False,
) -> Prediction:
    """Several opinions on all of the same image, with the same categories.

    Args:
        parts: S predictions. threshold: IoU from which on boxes are about the same object.
        weights: S factors of their scores; with "nms" and the soft methods relative to the largest.
        agnostic: boxes of different categories are compared, too.
    """
    weights = [1.0] * len(parts) if weights is None else list(weights)
    every, source = _joined(parts)
    boxes, scores, groups = _rows(every, agnostic)
    if method == "wbf":
        fused = weighted_boxes_fusion(boxes, scores, groups, source, weights, threshold)
        return _made(every, fused, _mean_masks(every, fused, scores * scores.new_tensor(weights)[source]))
    scores = scores * (scores.new_tensor(weights) / max(weights))[source]
    if method == "nms":
        fused = suppression(boxes, scores, groups, threshold)
    else:
        groups = torch.zeros_like(source) if groups is None else groups
        kept, left = suppress(boxes, scores, groups, threshold, method=method)
        fused = Fused(boxes[kept], left, kept, torch.full_like(source, -1))
    return _made(every, fused, None if every.masks is None else every.masks[fused.best])


def merge(
    parts: Sequence[Prediction],
    windows: Tensor,
    cut: Sequence[Tensor],
    method: Merging = "join",
    threshold: float = 0.5,
    agnostic: bool = False,
    doubt: float = 1.0,
) -> Prediction:
    """What T parts of an image show, each in the pixels of the whole image.

    Args:
        parts: T predictions. windows: (T, 4), what each saw. cut: T of (N,) bool, which boxes touch an edge that is
            not the image's.
        threshold: IoU of "join" and "wbf", intersection over the smaller of "nms" and "nmm".
        agnostic: boxes of different categories are compared, too. doubt: of "join", see `ops.fusion.joining`.
    """
    every, source = _joined(parts)
    boxes, scores, groups = _rows(every, agnostic)
    if method == "nms":
        fused = suppression(boxes, scores, groups, threshold, "ios")
    elif method == "nmm":
        fused = non_maximum_merging(boxes, scores, groups, threshold, "ios")
    elif method == "wbf":
        # Means of parts are parts. And of most places one tile alone knows: others' silence says nothing.
        gone, scores = completed(boxes, scores, groups, windows.to(boxes)[source], torch.cat(list(cut)))
        every, scores = every[~gone], scores[~gone]
        boxes, _, groups = _rows(every, agnostic)
        fused = weighted_boxes_fusion(boxes, scores, groups, torch.zeros_like(source[~gone]), (1.0,), threshold)
        return _made(every, fused, _mean_masks(every, fused, scores))
    else:
        fused = joining(boxes, scores, groups, windows.to(boxes)[source], torch.cat(list(cut)), threshold, doubt)
    return _made(every, fused, _united_masks(every, fused))


def _rows(every: Prediction, agnostic: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    assert every.boxes is not None
    assert every.scores is not None
    return every.boxes, every.scores, None if agnostic else every.labels


def _joined(parts: Sequence[Prediction]) -> tuple[Prediction, Tensor]:
    """All objects in one prediction, and the part that each comes from, (N,) int64."""
    boxes = [p.boxes for p in parts if p.boxes is not None]
    labels = [p.labels for p in parts if p.labels is not None]
    scores = [p.scores for p in parts if p.scores is not None]
    masks = [p.masks for p in parts if p.masks is not None]
    lengths = torch.tensor([len(b) for b in boxes], device=boxes[0].device)
    source = torch.arange(len(boxes), device=boxes[0].device).repeat_interleave(lengths)
    every = Prediction(parts[0].size, parts[0].categories, torch.cat(boxes), torch.cat(labels), torch.cat(scores))
    if masks:
        every.masks = _joined_masks(masks)
    return every, source


def _joined_masks(masks: Sequence[Masks]) -> Masks:
    grids = [m.grid for m in masks if m.grid is not None]
    if len(grids) < len(masks):
        return Masks(masks[0].size, shapes=[s for m in masks for s in _shapes(m)])
    finest = max(g.shape[-1] for g in grids)
    same = [
        F.interpolate(g[:, None].float(), size=(finest, finest), mode="bilinear")[:, 0] if g.shape[-1] != finest else g
        for g in grids
    ]
    return Masks(masks[0].size, grid=torch.cat(same), boxes=torch.cat([m.boxes for m in masks if m.boxes is not None]))


def _shapes(masks: Masks) -> list[Polygons | Rle | None]:
    return masks.shapes if masks.shapes is not None else [*to_rles(masks)]


def _made(every: Prediction, fused: Fused, masks: Masks | None) -> Prediction:
    assert every.labels is not None
    best = fused.best
    return dataclasses.replace(every, boxes=fused.boxes, scores=fused.scores, labels=every.labels[best], masks=masks)


def _mean_masks(every: Prediction, fused: Fused, weights: Tensor) -> Masks | None:
    """Grids over the fused boxes: the weighted mean of those of the boxes that each was made of."""
    masks = every.masks
    if masks is None:
        return None
    assert masks.grid is not None
    assert masks.boxes is not None
    members = (fused.cluster >= 0).nonzero().flatten()
    home = fused.cluster[members]
    count = torch.bincount(home, minlength=len(fused))
    grid = masks.grid[fused.best].float()
    several = count[home] > 1
    members, home = members[several], home[several]
    if len(members):
        share = weights[members] + torch.finfo(torch.float32).tiny
        total = torch.zeros_like(fused.scores).index_add_(0, home, share)
        sampled = _resampled(masks.grid[members].float(), masks.boxes[members], fused.boxes[home])
        grid[count > 1] = 0
        grid.index_add_(0, home, sampled * (share / total[home])[:, None, None])
    return Masks(masks.size, grid=grid, boxes=fused.boxes)


def _resampled(grid: Tensor, own: Tensor, new: Tensor) -> Tensor:
    """Grids (N, M, M) over their boxes as they are over others, (N, 4) each; 0 outside."""
    cell = (torch.arange(grid.shape[-1], device=grid.device) + 0.5) / grid.shape[-1]
    where = []
    for low, high in ((0, 2), (1, 3)):
        position = new[:, low, None] + cell * (new[:, high] - new[:, low])[:, None]
        side = (own[:, high] - own[:, low]).clamp(min=1e-6)[:, None]
        where.append((position - own[:, low, None]) / side * 2 - 1)
    x, y = where
    points = torch.stack((x[:, None, :].expand_as(grid), y[:, :, None].expand_as(grid)), dim=-1)
    return F.grid_sample(grid[:, None], points, padding_mode="zeros", align_corners=False)[:, 0]


def _united_masks(every: Prediction, fused: Fused) -> Masks | None:
    """The masks of the boxes that each was made of, as one; exact, so of pixels, once any two are united."""
    if every.masks is None:
        return None
    members = (fused.cluster >= 0).nonzero().flatten()
    members = members[fused.cluster[members].argsort(stable=True)]
    if len(members) == len(fused):
        return every.masks[members]
    shapes = to_rles(every.masks[members])
    counts = torch.bincount(fused.cluster[members], minlength=len(fused)).tolist()
    united: list[Polygons | Rle | None] = []
    start = 0
    for count in counts:
        own = shapes[start : start + count]
        united.append(own[0] if count == 1 else coco_mask.merge(own))
        start += count
    return Masks(every.masks.size, shapes=united)
