"""Boxes of one image from several looks at it (tiles, mirror images, scales, models) made into one set.

Every function returns `Fused`: the boxes that result, and which of the given ones went into each. Suppression proper,
where boxes of a single look thin each other out, is in `ops.suppression`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vision_tasks.ops.boxes import area
from vision_tasks.ops.overlaps import Metric, leaders, overlap, pairs

_SHOWN, _INSIDE = 0.25, 0.8
"""Of an object that a tile cuts off: how much of what lies in the tile of its box the part must show (IoU), and how
much of the part must lie in that box."""


@dataclass(frozen=True)
class Fused:
    """M boxes made of N, best first.

    Attributes:
        boxes: (M, 4) corners. scores: (M,). best: (M,) int64, the given box that each is named after: it has its group.
        cluster: (N,) int64, the row that each given box became a part of; -1 of those that were only dropped.
    """

    boxes: Tensor
    scores: Tensor
    best: Tensor
    cluster: Tensor

    def __len__(self) -> int:
        return len(self.boxes)


def suppression(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    threshold: float = 0.5,
    metric: Metric = "iou",
    windows: Tensor | None = None,
) -> Fused:
    """Greedy suppression: of boxes that overlap by at least the threshold the best one stays, as it is.

    Args:
        boxes: (N, 4) corners in pixels. scores: (N,). groups: (N,) int64 that leave each other alone; None: one group.
        threshold: of the overlap, above 0. metric: "iou", or "ios", by which a box inside another overlaps it wholly.
        windows: see `ops.overlaps.pairs`.
    """
    boxes, scores = boxes.float(), scores.float()
    leader = leaders(scores, *pairs(boxes, groups, threshold, metric, windows))
    kept = _kept(leader, scores)
    cluster = torch.full_like(leader, -1)
    cluster[kept] = torch.arange(len(kept), device=kept.device)
    return Fused(boxes[kept], scores[kept], kept, cluster)


def non_maximum_merging(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, threshold: float = 0.5, metric: Metric = "ios"
) -> Fused:
    """Greedy non-maximum merging, as SAHI does it (Akyon et al. 2022): a box grows over what it would suppress.

    The best box takes all that overlap it, one after another, best first, as long as they still overlap what it has
    grown to; it becomes the smallest box around them and keeps its score. Then the next best.

    Args: as of `suppression`.
    """
    boxes, scores = boxes.float(), scores.float()
    leader = leaders(scores, *pairs(boxes, groups, threshold, metric))
    kept = _kept(leader, scores)
    row = torch.full_like(leader, -1)
    row[kept] = torch.arange(len(kept), device=kept.device)
    cluster = row.clone()
    grown = boxes[kept]
    members = (row < 0).nonzero().flatten()
    members = members[scores[members].argsort(descending=True, stable=True)]
    # All clusters take their next member at once: members in the order of (which in its cluster, cluster).
    home = row[leader[members]]
    by_home = home.argsort(stable=True)
    members, home = members[by_home], home[by_home]
    turn = _places(home)
    for step in range(int(turn.max()) + 1 if len(turn) else 0):
        now = turn == step
        one, owner = members[now], home[now]
        fits = overlap(grown[owner], boxes[one], metric) >= threshold
        one, owner = one[fits], owner[fits]
        grown[owner] = _hull(grown[owner], boxes[one])
        cluster[one] = owner
    return Fused(grown, scores[kept], kept, cluster)


def joining(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    windows: Tensor,
    cut: Tensor,
    threshold: float = 0.5,
    doubt: float = 1.0,
) -> Fused:
    """Suppression of what tiles found, that knows which boxes are cut off by the edge of their tile.

    Boxes of two tiles are compared where both tiles saw: the part of a car at a tile's edge is the car that the next
    tile saw whole, if what the two show of it in their overlap is the same. First, what is cut off gives way to the
    best larger box that is whole, whatever they score, and leaves it the better score of the two. Then the best of
    those that are the same stay; one that is cut off becomes the smallest box around all parts of its object.

    Args:
        boxes, scores, groups, threshold: as of `suppression`, the overlap is IoU.
        windows: (N, 4) the tile of each box. cut: (N,) bool, it touches an edge that is not the image's.
        doubt: factor of the scores of what is cut off and never seen whole, for when all of the image was looked at.
    """
    boxes, scores = boxes.float(), scores.float()
    gone, scores = completed(boxes, scores, groups, windows, cut)
    first, second = pairs(boxes, groups, threshold, "iou", windows.float())
    scores = torch.where(cut & ~gone, scores * doubt, scores)
    here = ~(gone[first] | gone[second])
    leader = leaders(scores, first[here], second[here])
    kept = _kept(leader, scores)
    kept = kept[~gone[kept]]
    row = torch.full_like(leader, -1)
    row[kept] = torch.arange(len(kept), device=kept.device)
    # What grows is cut off, and so is all that it grows over.
    home = row[leader]
    part = cut & ~gone & cut[leader]
    shape = boxes[kept]
    low, high = shape[:, :2].clone(), shape[:, 2:].clone()
    spread = home[part, None].expand(-1, 2)
    low.scatter_reduce_(0, spread, boxes[part, :2], "amin")
    high.scatter_reduce_(0, spread, boxes[part, 2:], "amax")
    return Fused(torch.cat((low, high), dim=1), scores[kept], kept, torch.where(part, home, row))


def completed(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, windows: Tensor, cut: Tensor
) -> tuple[Tensor, Tensor]:
    """Boxes that are cut off by the edge of their tile, and of which another tile shows the whole object.

    Such a box lies in a larger one that is whole, and shows a good part of what of it lies in the tile. Not all: of a
    wheel that reaches into a tile, the tile sees less than the corner of its box.

    Args: as of `joining`.

    Returns:
        (N,) bool, and the scores (N,), in which the best whole box has that of its part if this is better.
    """
    boxes, scores, windows = boxes.float(), scores.float(), windows.float()
    first, second = pairs(boxes, groups, _SHOWN, "iou", windows)
    part, whole = torch.cat((first, second)), torch.cat((second, first))
    size = area(boxes)
    inside = overlap(boxes[part], boxes[whole], "ios") >= _INSIDE
    fits = cut[part] & ~cut[whole] & (size[whole] >= size[part]) & inside
    part, whole = part[fits], whole[fits]
    gone = torch.zeros_like(cut)
    gone[part] = True
    top = torch.full_like(scores, -1).scatter_reduce(0, part, scores[whole], "amax")
    heir = scores[whole] == top[part]
    return gone, scores.scatter_reduce(0, whole[heir], scores[part[heir]], "amax")


def _kept(leader: Tensor, scores: Tensor) -> Tensor:
    """Indices of the boxes that lead themselves, best first."""
    kept = (leader == torch.arange(len(leader), device=leader.device)).nonzero().flatten()
    return kept[scores[kept].argsort(descending=True, stable=True)]


def _places(groups: Tensor) -> Tensor:
    """How many of the same value stand before each of these sorted values, (N,) int64."""
    place = torch.arange(len(groups), device=groups.device)
    return place - torch.searchsorted(groups, groups)


def _hull(one: Tensor, two: Tensor) -> Tensor:
    return torch.cat((torch.minimum(one[:, :2], two[:, :2]), torch.maximum(one[:, 2:], two[:, 2:])), dim=1)
