"""SimOTA: which cells answer for which truth, by the network's own answers (YOLOX, Ge et al. 2021, section 2.2).

A simplification of optimal transport assignment (OTA, Ge et al. 2021): every truth takes the few cells whose answers
cost least, and how many those are is read off the overlaps.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vision_tasks.ops.boxes import pairwise_iou
from vision_tasks.ops.matching import BACKGROUND

OVERLAP_COST = 3.0
OUTSIDE_COST = 1e5
LEAST_LOG = -100.0  # as in torch's binary cross entropy
_PAIRS = 2**22  # of a truth and a cell, looked at in one go: bounds the memory for images with very many objects


@torch.no_grad()
def sim_ota(
    logits: Tensor,
    objectness: Tensor,
    boxes: Tensor,
    cells: Tensor,
    truth: Tensor,
    outputs: Tensor,
    real: Tensor,
    center_radius: float = 2.5,
    most: int = 10,
) -> Tensor:
    """Assign each of A cells of one image to one of T truths or to the background.

    Only cells count whose centre lies in some truth's box, or less than `center_radius` strides from some truth's
    centre in x and in y. A truth takes as many of them as its `most` best overlaps sum up to, rounded down, at least
    one. It takes those of least cost: binary cross entropy of the class scores, minus three times the logarithm of the
    overlap, plus 100,000 unless the cell lies both in that truth's box and near its centre. A cell that several truths
    want goes to the one it costs least, of all truths. No host synchronisation; memory is bounded for any T.

    Args:
        logits: (A, C) of the classes. objectness: (A,) logits. Their probabilities are multiplied, and the cross
            entropy is of the square root. boxes: (A, 4) predicted corners in pixels. All float32 or float64.
        cells: (A, 4) corners of the cells in pixels; a cell is as large as its level's stride.
        truth: (T, 4) corners in pixels. outputs: (T,) int64 class output of each, in 0..C-1.
        real: (T,) bool; the others (crowds, boxes without area) take no cell.
        center_radius: strides. most: overlaps that are summed, which is also the most cells a truth can take.

    Returns:
        (A,) int64: index of the truth, or `ops.matching.BACKGROUND`.
    """
    most = min(most, len(cells))
    wanted_cost, other_cost = _class_costs(logits, objectness)
    rows = max(1, _PAIRS // max(1, len(cells)))
    parts = [slice(start, start + rows) for start in range(0, len(truth), rows)]
    eligible = torch.zeros(len(cells), dtype=torch.bool, device=cells.device)
    for part in parts:
        inside, near = _where(cells, truth[part], center_radius)
        eligible |= ((inside | near) & real[part, None]).any(dim=0)

    takers = torch.zeros(len(cells), dtype=torch.int64, device=cells.device)
    taker = torch.full_like(takers, BACKGROUND)
    cheapest_truth, lowest_cost = torch.zeros_like(takers), boxes.new_full((len(cells),), torch.inf)
    for part in parts:
        inside, near = _where(cells, truth[part], center_radius)
        possible = eligible & real[part, None]
        overlap = torch.where(possible, pairwise_iou(truth[part], boxes), 0)
        cost = other_cost + wanted_cost[:, outputs[part]].t() - OVERLAP_COST * (overlap + 1e-8).log()
        cost = torch.where(possible, cost + OUTSIDE_COST * ~(inside & near), torch.inf)

        count = overlap.topk(most, dim=1).values.sum(dim=1).int().clamp(min=1)
        least, index = cost.topk(most, dim=1, largest=False)
        chosen = (torch.arange(most, device=cost.device) < count[:, None]) & least.isfinite()
        taken = torch.zeros_like(possible).scatter(1, index, chosen)
        takers += taken.sum(dim=0)
        taker = torch.where(taken.any(dim=0), taken.int().argmax(dim=0) + part.start, taker)
        least, index = cost.min(dim=0)
        cheapest_truth = torch.where(least < lowest_cost, index + part.start, cheapest_truth)
        lowest_cost = torch.minimum(least, lowest_cost)
    return torch.where(takers > 1, cheapest_truth, taker)


def _class_costs(logits: Tensor, objectness: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross entropy of a cell's class scores against one wanted class, in two parts to be added.

    What it costs to want this class, (A, C), and what no class at all would cost, (A,): so the sum over classes is made
    once, not for every truth, whose (T, A, C) would not fit in memory.
    """
    log_score = (F.logsigmoid(logits) + F.logsigmoid(objectness)[:, None]) / 2
    log_rest = torch.log(-torch.expm1(log_score)).clamp(min=LEAST_LOG)
    return log_rest - log_score.clamp(min=LEAST_LOG), -log_rest.sum(dim=1)


def _where(cells: Tensor, truth: Tensor, center_radius: float) -> tuple[Tensor, Tensor]:
    """Whether cells' centres lie in the truths' boxes, and whether near their centres, (T, A) bool each."""
    centers = (cells[:, :2] + cells[:, 2:]) / 2
    inside = ((centers > truth[:, None, :2]) & (centers < truth[:, None, 2:])).all(dim=-1)
    reach = center_radius * (cells[:, 2:] - cells[:, :2])
    middles = (truth[:, None, :2] + truth[:, None, 2:]) / 2
    return inside, ((centers - middles).abs() < reach).all(dim=-1)
