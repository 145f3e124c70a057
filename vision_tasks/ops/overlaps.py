"""Which of many boxes overlap, as a list of pairs: time and memory go with the pairs there are, not with N²."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from vision_tasks.ops.boxes import area

Metric = Literal["iou", "ios"]
"""How much two boxes overlap: intersection over union, or over the smaller one, which is 1 for a box inside another."""

_PAIRS_AT_ONCE = 1 << 22


def overlap(first: Tensor, second: Tensor, metric: Metric = "iou") -> Tensor:
    """Of pairs of boxes, (P, 4) and (P, 4) -> (P,) in 0..1; boxes without area overlap by 0."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    one, two = area(first), area(second)
    whole = torch.minimum(one, two) if metric == "ios" else one + two - shared
    return shared / whole.clamp(min=torch.finfo(shared.dtype).tiny)


def touching(boxes: Tensor, groups: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """All pairs of boxes of one group that share some area, in parts: indices (P,) and (P,), each pair once.

    A sweep from left to right: of a box, only those that begin before it ends are looked at.

    Args:
        boxes: (N, 4) corners. groups: (N,) int64; None is one group.
    """
    if len(boxes) < 2:
        return
    exact = boxes.to(torch.float64)
    left, right = exact[:, 0], exact[:, 2]
    if groups is not None:
        # Groups side by side, further apart than any box is wide: no sweep reaches from one into the next.
        apart = groups * (right.max() - left.min() + 1)
        left, right = left + apart, right + apart
    order = left.argsort()
    left, right = left[order], right[order]
    # Of the box in place i, those in i + 1 .. stop[i] - 1 begin before its right side.
    place = torch.arange(len(boxes), device=boxes.device)
    count = (torch.searchsorted(left, right, right=False) - place - 1).clamp(min=0)
    ends = count.cumsum(0)
    start, total = 0, int(ends[-1])
    done = 0
    while done < total:
        stop = max(start + 1, int(torch.searchsorted(ends, done + _PAIRS_AT_ONCE, right=True)))
        here = count[start:stop]
        one = place[start:stop].repeat_interleave(here)
        before = ends[start:stop] - here
        two = one + 1 + torch.arange(len(one), device=one.device) + done - before.repeat_interleave(here)
        a, b = order[one], order[two]
        shared = (torch.minimum(boxes[a, 3], boxes[b, 3]) > torch.maximum(boxes[a, 1], boxes[b, 1])) & (
            torch.minimum(boxes[a, 2], boxes[b, 2]) > torch.maximum(boxes[a, 0], boxes[b, 0])
        )
        yield a[shared], b[shared]
        start, done = stop, int(ends[stop - 1])


def pairs(
    boxes: Tensor, groups: Tensor | None, threshold: float, metric: Metric = "iou", windows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Pairs of boxes of one group that overlap by at least `threshold`, each once.

    Args:
        boxes: (N, 4) corners. groups: (N,) int64; None is one group. threshold: above 0.
        windows: (N, 4), the part of the image in which each box was found: boxes are then compared in what is common to
            both windows, where both were to be seen. Default the boxes as they are.

    Returns:
        Indices (P,) and (P,) int64.
    """
    found = []
    for a, b in touching(boxes, groups):
        one, two = boxes[a], boxes[b]
        if windows is not None:
            low = torch.maximum(windows[a, :2], windows[b, :2])
            high = torch.maximum(torch.minimum(windows[a, 2:], windows[b, 2:]), low)
            one, two = _within(one, low, high), _within(two, low, high)
        enough = overlap(one, two, metric) >= threshold
        found.append((a[enough], b[enough]))
    if not found:
        none = torch.zeros(0, dtype=torch.int64, device=boxes.device)
        return none, none
    return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])


def leaders(scores: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Greedy suppression over given pairs: who is kept, and who is dropped for whom.

    From the best score down, a box is kept unless a kept one is paired with it. Boxes whose better partners are all
    dropped are decided together, so that there are as many steps as the longest chain has links.

    Args:
        scores: (N,); of equal ones the first is better. first, second: (P,) pairs, in any order.

    Returns:
        (N,) int64: a kept box's own index, a dropped one's best partner that is kept.
    """
    count, device = len(scores), scores.device
    order = scores.argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(count, device=device)
    better, worse = torch.minimum(rank[first], rank[second]), torch.maximum(rank[first], rank[second])
    kept, dropped = (torch.zeros(count, dtype=torch.bool, device=device) for _ in range(2))
    open_better, open_worse = better, worse
    while True:
        waits = torch.zeros(count, dtype=torch.bool, device=device)
        waits[open_worse] = True
        kept |= ~waits & ~dropped
        if not len(open_worse):
            break
        dropped[open_worse[kept[open_better]]] = True
        # What is decided on either side constrains nobody any more.
        still = ~(kept[open_better] | dropped[open_better] | dropped[open_worse])
        open_better, open_worse = open_better[still], open_worse[still]
    leader = torch.where(kept, torch.arange(count, device=device), count)
    led = kept[better]
    leader.scatter_reduce_(0, worse[led], better[led], "amin")
    out = torch.empty_like(order)
    out[order] = order[leader]
    return out


def _within(boxes: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.cat([side.clamp(min=low, max=high) for side in (boxes[:, :2], boxes[:, 2:])], dim=1)
