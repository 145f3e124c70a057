"""From scores and raw boxes to detections: threshold, best candidates, decode, clip, suppress, keep the best.

Every detector ends here: `detect` for one image with as many detections as there are, `detect_fixed` with an output of
fixed shape that `torch.export` and other runtimes take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vision_tasks.ops.boxes import clip
from vision_tasks.ops.suppression import METHODS, Method, select, suppress_fixed
from vision_tasks.structures import Size

Decode = Callable[[Tensor, Tensor], Tensor]
"""(rows (M,), labels (M,)) -> (M, 4) corners in network pixels."""

_FIXED_CANDIDATES = 4096
"""Boxes that `detect_fixed` sends to suppression at most. Suppression is greedy from the best score down, so the result
is exact whenever this many candidates leave all the detections that are wanted."""


@dataclass(frozen=True)
class DetectionRule:
    """What becomes of a detector's scored boxes.

    Attributes:
        score_threshold: a score must exceed it. iou_threshold: of suppression.
        detections: kept per image. candidates: best scores that go to suppression; None: all above the threshold.
        candidates_per: whether that many of each pyramid level (all categories together) or of each category.
        suppression: see `ops.suppression.Method`. min_size: pixels; boxes with a shorter side are dropped.
        clip: whether boxes are cut at the image's border before they suppress each other; some peers do not.
    """

    score_threshold: float
    iou_threshold: float
    detections: int
    candidates: int | None = None
    candidates_per: Literal["level", "category"] = "level"
    suppression: Method = "nms"
    min_size: float = 0.0
    clip: bool = True

    def __post_init__(self) -> None:
        if self.suppression not in METHODS:
            raise ValueError(f"suppression must be one of {', '.join(METHODS)}, not {self.suppression!r}")
        if not (0 <= self.score_threshold <= 1 and 0 <= self.iou_threshold <= 1):
            raise ValueError(f"thresholds must be in 0..1, not {self.score_threshold} and {self.iou_threshold}")
        if self.detections < 1:
            raise ValueError(f"detections per image must be at least 1, not {self.detections}")


@dataclass(frozen=True)
class Found:
    """The scores of one image that exceed the threshold, in any order.

    Attributes:
        rows, labels: (M,) int64, of the anchor and of the category. scores: (M,) float32.
    """

    rows: Tensor
    labels: Tensor
    scores: Tensor


def detect(
    scores: Tensor,
    decode: Decode,
    size: Size,
    rule: DetectionRule,
    lengths: Sequence[int] | None = None,
    groups: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Detections of one image.

    Args:
        scores: (A, K) probabilities of the K real categories for A anchors, cells or proposals.
        decode: called with the best candidates alone, once as a rule: of a hundred thousand anchors some hundred.
        size: (height, width) the boxes are clipped to.
        lengths: anchors of each pyramid level, summing to A; default one level.
        groups: (K,) int64, what suppression takes for a label; default the label. Published models suppress by output
            column, and the same numbers give the same rounding.

    Returns:
        boxes (N, 4), labels (N,) int64, scores (N,), best first, N at most `rule.detections`.
    """
    rows, labels = above(scores, rule.score_threshold)
    return detect_found(Found(rows, labels, scores[rows, labels]), decode, size, rule, lengths, groups)


def detect_found(
    found: Found,
    decode: Decode,
    size: Size,
    rule: DetectionRule,
    lengths: Sequence[int] | None = None,
    groups: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`detect` for those who know which scores exceed the threshold.

    A box's fate depends on better ones alone (but for the soft methods). So the best few candidates are decoded and
    suppressed, and more only where these do not leave all the detections that are wanted.
    """
    count = len(found.rows)
    pools = _pools(found, rule, lengths)
    few = count if rule.suppression.startswith("soft") else 4 * rule.detections
    while True:
        few = count if count <= 2 * few else few
        best = _best(found.scores, pools, few, rule.candidates or count)
        labels, scores = found.labels[best], found.scores[best]
        boxes = decode(found.rows[best], labels)
        if rule.clip:
            boxes = clip(boxes, size)
        kept, kept_scores = select(
            boxes, scores, labels if groups is None else groups[labels],
            iou_threshold=rule.iou_threshold, top_k=rule.detections, min_size=rule.min_size, method=rule.suppression,
        )  # fmt: skip
        if few == count or len(kept) == rule.detections:
            break
        few *= 4
    if rule.suppression.startswith("soft"):
        alive = kept_scores > rule.score_threshold
        kept, kept_scores = kept[alive], kept_scores[alive]
    return boxes[kept], labels[kept], kept_scores


def above(values: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Row and column of the values of a (A, C) tensor that exceed the limit, (M,) int64 each, row by row."""
    flat = values.flatten()
    # Eight answers are looked at at once, of which hardly any is yes.
    answers = torch.zeros(-(-len(flat) // 8) * 8, dtype=torch.bool, device=values.device)
    torch.gt(flat, limit, out=answers[: len(flat)])
    some = answers.view(torch.int64).nonzero().flatten()
    which, bit = answers.view(-1, 8)[some].nonzero(as_tuple=True)
    place = some[which] * 8 + bit
    return place // values.shape[1], place % values.shape[1]


def _pools(found: Found, rule: DetectionRule, lengths: Sequence[int] | None) -> Tensor | None:
    """(M,) int64, the level or category of which only `rule.candidates` are looked at; None if there are no more."""
    if rule.candidates is None or len(found.rows) <= rule.candidates:
        return None
    if rule.candidates_per == "category":
        return found.labels
    ends = torch.tensor(list(lengths or ()), dtype=torch.int64, device=found.rows.device).cumsum(0)
    return torch.bucketize(found.rows, ends, right=True)


def _best(scores: Tensor, pools: Tensor | None, few: int, candidates: int) -> Tensor:
    """Indices of the best `few` scores less those that are not among the `candidates` best of their pool."""
    if pools is None:
        return torch.arange(few, device=scores.device) if few == len(scores) else scores.topk(few).indices
    best = scores.topk(few).indices
    own, place = pools[best].sort(stable=True)
    rank = torch.arange(few, device=scores.device) - torch.searchsorted(own, own)
    return best[place[rank < candidates]]


def detect_fixed(
    scores: Tensor,
    decode: Decode,
    size: Size | Tensor,
    rule: DetectionRule,
    lengths: Sequence[int] | None = None,
    groups: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`detect` with shapes that do not depend on the image; nothing waits for the host.

    Args:
        size: (height, width), numbers or a (2,) tensor.

    Returns:
        boxes (D, 4), labels (D,) int64, scores (D,), rows (D,) int64 of the anchors, count () int64, D being
        `rule.detections`. After the first `count` everything is zero.
    """
    rows, labels, values = _fixed_candidates(scores, rule, lengths)
    boxes = decode(rows, labels).float()
    if rule.clip:
        height, width = torch.as_tensor(size, device=scores.device, dtype=torch.float32).unbind()
        boxes = torch.minimum(boxes.clamp(min=0), torch.stack((width, height, width, height)))
    large = ((boxes[:, 2:] - boxes[:, :2]) >= rule.min_size).all(dim=1)
    values = torch.where(large, values, 0)
    index, kept = suppress_fixed(
        boxes,
        values,
        labels if groups is None else groups[labels],
        rule.iou_threshold,
        rule.detections,
        rule.suppression,
    )
    real = kept > rule.score_threshold
    return (
        torch.where(real[:, None], boxes[index], 0),
        torch.where(real, labels[index], 0),
        torch.where(real, kept, 0),
        torch.where(real, rows[index], 0),
        real.sum(),
    )


def _fixed_candidates(
    scores: Tensor, rule: DetectionRule, lengths: Sequence[int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, labels and scores of a fixed number of candidates, best first; scores not above the threshold become 0."""
    columns = scores.shape[1]
    passed = torch.where(scores > rule.score_threshold, scores, 0)
    count = rule.candidates or _FIXED_CANDIDATES
    if rule.candidates is not None and rule.candidates_per == "category":
        value, row = padded_topk(passed.t(), count)
        label = torch.arange(columns, device=scores.device)[:, None].expand_as(row)
        values, index = value.flatten(), (row * columns + label).flatten()
    else:
        parts, start = [], 0
        for length in lengths or (len(scores),):
            value, place = padded_topk(passed[start : start + length].flatten(), count)
            parts.append((value, place + start * columns))
            start = start + length
        values, index = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    if values.shape[0] > _FIXED_CANDIDATES:
        values, best = values.topk(_FIXED_CANDIDATES)
        index = index[best]
    return index // columns, index % columns, values


def padded_topk(values: Tensor, count: int, filler: float = 0.0) -> tuple[Tensor, Tensor]:
    """Top `count` along the last dimension, also of fewer: values are `filler` and indices legal where nothing is left.

    Fillers are appended rather than `count` lowered, because an exported graph may not know how many there are.
    """
    length = values.shape[-1]
    if not (isinstance(length, int) and length >= count):
        values = torch.cat((values, values.new_full((*values.shape[:-1], count), filler)), dim=-1)
    best, index = values.topk(count, dim=-1)
    return best, index.clamp(max=length - 1)
