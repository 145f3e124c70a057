"""Which truth an anchor or proposal answers for, and which of them a loss looks at."""

from __future__ import annotations

import torch
from torch import Tensor

BACKGROUND = -1
"""Match of a box that overlaps no truth enough."""
IGNORED = -2
"""Match of a box that is neither clearly object nor clearly background."""


def match(overlaps: Tensor, foreground: float, background: float, low_quality: bool = False) -> Tensor:
    """Assign each of N boxes to its best of T truths (Faster R-CNN, section 3.1.2).

    Args:
        overlaps: (T, N) IoU; T may be 0.
        foreground: at least this overlap makes a match. background: less than this is background;
            between the two a box is ignored.
        low_quality: also match, for each truth, the boxes that overlap it best, however little (rule (i) of the
            paper). As in torchvision such a box keeps its own best truth. A truth that overlaps nothing at all
            matches nothing (torchvision would match every box that overlaps it by 0).

    Returns:
        (N,) int64: index of the truth, `BACKGROUND` or `IGNORED`.
    """
    if overlaps.shape[0] == 0:
        return torch.full((overlaps.shape[1],), BACKGROUND, dtype=torch.int64, device=overlaps.device)
    best, index = overlaps.max(dim=0)
    matches = torch.where(best >= foreground, index, IGNORED)
    matches = torch.where(best < background, BACKGROUND, matches)
    if low_quality and overlaps.shape[1]:
        best_of_truth = overlaps.max(dim=1, keepdim=True).values
        is_best = ((overlaps == best_of_truth) & (best_of_truth > 0)).any(dim=0)
        matches = torch.where(is_best, index, matches)
    return matches


def sample_balanced(
    matches: Tensor, count: int, positive_fraction: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw a fixed number of boxes, at most a fraction of them positive (Faster R-CNN, section 3.1.3).

    Uniform within positives and negatives. Fixed output shape and no host synchronisation: what is short of
    `count` is marked invalid.

    Args:
        matches: (N,) as `match` returns. count: boxes to draw. positive_fraction: 0..1.
        generator: random state; None is torch's own.

    Returns:
        indices: (min(count, N) + positives' quota at most,) int64. valid: bool, same shape. Positives come first.
    """
    # Keys lie in (0, 1]: 0 marks boxes that must not be drawn.
    keys = 1 - torch.rand(matches.shape, generator=generator, device=matches.device)
    quota = min(int(count * positive_fraction), len(matches))
    positive_key, positive = torch.where(matches >= 0, keys, 0).topk(quota)
    positive_valid = positive_key > 0
    negative_key, negative = torch.where(matches == BACKGROUND, keys, 0).topk(min(count, len(matches)))
    rank = torch.arange(len(negative), device=matches.device)
    negative_valid = (negative_key > 0) & (rank < count - positive_valid.sum())
    return torch.cat((positive, negative)), torch.cat((positive_valid, negative_valid))


def match_each(overlaps: Tensor, foreground: float) -> Tensor:
    """SSD's assignment (Liu et al. 2016, section 2.2): every truth gets its best box, whatever else overlaps that box.

    All other boxes take their best truth if they overlap it enough, as by `match`. Where two truths have the same best
    box the later one gets it, and a truth that overlaps nothing gets none.

    Args:
        overlaps: (T, N) IoU; T may be 0, N may not. foreground: at least this overlap makes a match.

    Returns:
        (N,) int64: index of the truth, or `BACKGROUND`.
    """
    matches = match(overlaps, foreground, foreground)
    if overlaps.shape[0] == 0:
        return matches
    best, box = overlaps.max(dim=1)
    truth = torch.where(best > 0, torch.arange(len(best), device=best.device), BACKGROUND)
    forced = torch.full_like(matches, BACKGROUND).scatter_reduce(0, box, truth, "amax")
    return torch.where(forced > BACKGROUND, forced, matches)


def hardest(losses: Tensor, allowed: Tensor, counts: Tensor) -> Tensor:
    """The boxes with the greatest losses of each image: hard negative mining (SSD, section 2.2).

    Args:
        losses: (B, N). allowed: (B, N) bool, those to choose from (negatives). counts: (B,) how many to choose.

    Returns:
        (B, N) bool, true for counts[b] of the allowed boxes of image b, or for all of them if they are fewer.
    """
    order = torch.where(allowed, losses, -torch.inf).argsort(dim=1, descending=True)
    first = torch.arange(losses.shape[1], device=losses.device) < counts[:, None]
    return torch.zeros_like(allowed).scatter(1, order, first) & allowed
