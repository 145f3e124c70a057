"""Weighted boxes fusion (Solovyev, Wang, Gabruseva 2021): boxes that several models agree on become their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from vision_tasks.errors import VisionTasksError
from vision_tasks.ops.fusion import Fused
from vision_tasks.ops.overlaps import touching

FusedScore = Literal["average", "max", "box_and_model", "absent_aware"]
"""What a fused box scores (the authors' conf_type).

average: the mean of its boxes, lower where fewer boxes than models agree (section 3.2, step 6). max: their best.
box_and_model: the mean weighted by the models' weights, times the share of the models that saw it. absent_aware: the
mean over its boxes and over the models that did not see it.
"""

_MANY = 64  # boxes of a part from which on the clusters of one are enough work for a step
_TINY = 1e-300


def weighted_boxes_fusion(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    sources: Tensor,
    weights: Sequence[float] = (1.0,),
    threshold: float = 0.55,
    skip: float = 0.0,
    score: FusedScore = "average",
    allows_overflow: bool = False,
) -> Fused:
    """Clusters of boxes that overlap their weighted mean, each replaced by that mean.

    From the best (weighted) score down each box joins the cluster whose mean box it overlaps most, by more than the
    threshold, or begins one; the mean, weighted by scores, is taken anew. In float64, on the CPU: the order is the
    method. What cannot meet is worked on side by side: parts of the image, groups.

    Args:
        boxes: (N, 4) corners in pixels. scores: (N,). groups: (N,) int64, clusters are of one; None: one group.
        sources: (N,) int64 in 0..S-1, the model or look each box comes from. weights: S, of the sources.
        threshold: IoU with the mean that a box must exceed to join. skip: boxes that score less are left out.
        score: of a fused box. allows_overflow: with "average", let more boxes than models raise a score above their
            mean, even beyond 1.

    Returns:
        Float32; `cluster` is -1 of boxes left out and of those without area.

    Raises:
        VisionTasksError: weights that are not positive, or an unknown kind of score.
    """
    factors = np.asarray(weights, dtype=np.float64)
    if factors.ndim != 1 or not len(factors) or not (factors > 0).all() or not np.isfinite(factors).all():
        raise VisionTasksError(f"Weights of models must be positive numbers, not {tuple(weights)}.")
    if score not in get_args(FusedScore):
        raise VisionTasksError(f"score must be one of {', '.join(get_args(FusedScore))}, not {score!r}.")
    device = boxes.device
    whole = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & (scores >= skip)
    index = whole.nonzero().flatten()
    cluster = torch.full((len(boxes),), -1, dtype=torch.int64, device=device)
    if not len(index):
        return Fused(boxes[:0].float(), scores[:0].float(), index, cluster)
    corners = boxes[index].double().cpu().numpy()
    source = sources[index].cpu().numpy()
    value = scores[index].double().cpu().numpy() * factors[source]
    kinds = None if groups is None else groups[index].cpu()
    member, mean, total = _clustered(corners, value, _apart(torch.from_numpy(corners), kinds), threshold)
    count = np.bincount(member).astype(np.float64)
    best = np.zeros(len(count))
    np.maximum.at(best, member, value)
    seen = np.zeros((len(count), len(factors)), dtype=bool)
    seen[member, source] = True
    weight = np.bincount(member, weights=factors[source])
    if score == "average":
        fused = total / count * (count if allows_overflow else np.minimum(count, len(factors))) / factors.sum()
    elif score == "max":
        fused = best / factors.max()
    elif score == "box_and_model":
        fused = total / weight * (seen @ factors) / factors.sum()
    else:
        fused = total / (weight + ~seen @ factors)
    order = np.argsort(-fused, kind="stable")
    row = np.empty(len(order), dtype=np.int64)
    row[order] = np.arange(len(order))
    first = np.full(len(order), len(value))
    by_value = np.argsort(-value, kind="stable")
    np.minimum.at(first, member[by_value], np.arange(len(value)))
    cluster[index] = torch.from_numpy(row[member]).to(device)
    return Fused(
        torch.from_numpy(mean[order]).to(device, torch.float32),
        torch.from_numpy(fused[order]).to(device, torch.float32),
        index[torch.from_numpy(by_value[first[order]]).to(device)],
        cluster,
    )


def _apart(boxes: Tensor, groups: Tensor | None) -> np.ndarray:
    """(N,) int64, a number for each box: boxes of different numbers can never come into one cluster.

    A mean lies in the smallest box around all it is made of. So if these do not meet, neither do the means.
    """
    number = np.arange(len(boxes))
    hulls, kinds = boxes, groups
    while True:
        found = list(touching(hulls, kinds))
        a, b = (np.concatenate([p[i].numpy() for p in found]) if found else np.zeros(0, dtype=np.int64) for i in (0, 1))
        links = coo_matrix((np.ones(len(a), dtype=bool), (a, b)), shape=(len(hulls), len(hulls)))
        count, label = connected_components(links, directed=False)
        number = label[number]
        if count == len(hulls):
            return np.asarray(number, dtype=np.int64)
        home = torch.from_numpy(label.astype(np.int64))
        spread = home[:, None].expand(-1, 2)
        low = torch.full((count, 2), np.inf, dtype=hulls.dtype).scatter_reduce_(0, spread, hulls[:, :2], "amin")
        high = torch.full((count, 2), -np.inf, dtype=hulls.dtype).scatter_reduce_(0, spread, hulls[:, 2:], "amax")
        hulls = torch.cat((low, high), dim=1)
        if kinds is not None:
            kinds = torch.empty(count, dtype=kinds.dtype).scatter_(0, home, kinds)


def _clustered(
    boxes: np.ndarray, values: np.ndarray, parts: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The clusters of N boxes: each box's (N,) int64, and per cluster the mean (M, 4) and the sum of values (M,)."""
    order = np.lexsort((-values, parts))
    sizes = np.bincount(parts)
    starts = np.cumsum(sizes) - sizes
    # A part's clusters are kept where its boxes stand in `order`: there cannot be more of them.
    state = _Clusters(np.zeros((4, len(boxes))), np.zeros((4, len(boxes))), np.zeros(len(boxes)))
    slot = np.empty(len(boxes), dtype=np.int64)
    _side_by_side(boxes, values, order, starts, np.where(sizes > _MANY, 0, sizes), threshold, state, slot)
    for part in np.flatnonzero(sizes > _MANY):
        own = order[starts[part] : starts[part] + sizes[part]]
        _one_by_one(boxes, values, own, int(starts[part]), threshold, state, slot)
    taken = np.unique(slot)
    return np.searchsorted(taken, slot), state.mean[:, taken].T, state.total[taken]


@dataclass
class _Clusters:
    """(4, N) sums of weighted corners, (4, N) means, (N,) sums of values."""

    sums: np.ndarray
    mean: np.ndarray
    total: np.ndarray

    def add(self, place: np.ndarray | int, boxes: np.ndarray, values: np.ndarray | float) -> None:
        """Boxes (4, n) to the clusters at these places, no two to the same."""
        # Scores of 0 would leave no mean; so small a weight changes no other.
        values = values + _TINY
        self.sums[:, place] += values * boxes
        self.total[place] += values
        self.mean[:, place] = self.sums[:, place] / self.total[place]


def _side_by_side(
    boxes: np.ndarray, values: np.ndarray, order: np.ndarray, starts: np.ndarray, sizes: np.ndarray, threshold: float,
    state: _Clusters, slot: np.ndarray,
) -> None:  # fmt: skip
    """All parts take their next best box in the same step: as many steps as the largest has boxes."""
    used = np.zeros(len(sizes), dtype=np.int64)
    live = np.arange(len(sizes))
    for step in range(int(sizes.max())):
        live = live[sizes[live] > step]
        one, many = order[starts[live] + step], used[live]
        place = starts[live] + many  # a new cluster, unless one fits
        fits = np.zeros(len(live), dtype=bool)
        if step:
            ends = np.cumsum(many)
            candidate = np.repeat(starts[live] - (ends - many), many) + np.arange(ends[-1])
            found = _iou(state.mean[:, candidate], np.repeat(boxes[one], many, axis=0).T)
            top = np.maximum.reduceat(found, ends - many)
            fits = top > threshold
            where = np.flatnonzero(found == np.repeat(top, many))
            # The first of equals, part by part.
            first = where[np.unique(np.searchsorted(ends, where, side="right"), return_index=True)[1]]
            place = np.where(fits, candidate[first], place)
        used[live] += ~fits
        state.add(place, boxes[one].T, values[one])
        slot[one] = place


def _one_by_one(
    boxes: np.ndarray, values: np.ndarray, own: np.ndarray, start: int, threshold: float, state: _Clusters,
    slot: np.ndarray,
) -> None:  # fmt: skip
    """One part with many boxes, best first: each against all clusters there are."""
    used = 0
    # Plain numbers and rows of their own: with arrays of four the bookkeeping takes longer than the overlaps.
    left, top, right, bottom = state.mean[:, start : start + len(own)]
    areas = np.zeros(len(own))
    for one, (x1, y1, x2, y2), value in zip(own.tolist(), boxes[own].tolist(), values[own].tolist(), strict=True):
        place = used
        if used:
            shared = np.minimum(right[:used], x2) - np.maximum(left[:used], x1)
            np.maximum(shared, 0, out=shared)
            high = np.minimum(bottom[:used], y2) - np.maximum(top[:used], y1)
            np.maximum(high, 0, out=high)
            shared *= high
            shared /= areas[:used] + (x2 - x1) * (y2 - y1) - shared
            nearest = int(shared.argmax())
            if shared[nearest] > threshold:
                place = nearest
        used += place == used
        state.add(start + place, boxes[one], value)
        areas[place] = (right[place] - left[place]) * (bottom[place] - top[place])
        slot[one] = start + place


def _iou(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Of corners (4, n) and (4, n) or (4, 1)."""
    (a1, b1, a2, b2), (c1, d1, c2, d2) = one, two
    wide = np.minimum(a2, c2) - np.maximum(a1, c1)
    shared = np.maximum(wide, 0) * np.maximum(np.minimum(b2, d2) - np.maximum(b1, d1), 0)
    return np.asarray(shared / ((a2 - a1) * (b2 - b1) + (c2 - c1) * (d2 - d1) - shared))
