"""Cross entropy of semantic maps, over all annotated pixels or over the hard ones alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vision_tasks.losses.means import class_tensor, mean_over


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    positive_weight: float | None = None,
    hard_share: float | None = None,
    hard_threshold: float | None = None,
    min_kept: int = 100_000,
) -> Tensor:
    """The mean over annotated pixels; of sigmoid outputs, over annotated pixels of all layers.

    It is `torch.nn.functional.cross_entropy` (or its binary form), but 0 where nothing is annotated. smp's soft cross
    entropies divide by all pixels, the ignored ones, too.

    Hard pixels alone (online hard example mining) are either a share of the annotated ones, as in DeepLab, or those
    whose true class has a low probability, as in MMSegmentation. How hard a pixel is, is its cross entropy without
    weights or smoothing. The mean is over the kept pixels (MMSegmentation divides by all of them, so that its loss
    shrinks while the network learns).

    Args:
        logits: (B, K, H, W). target: (B, H, W) int64 labels, or (B, K, H, W) of 0 and 1; -1 is ignored.
        class_weights: of each class, K of them; the mean is divided by the sum of the pixels' weights, as in torch.
        label_smoothing: share of the truth that is spread over all classes evenly, 0 to below 1; a sigmoid has two.
        positive_weight: times the loss where a layer's truth is 1; sigmoid outputs only. The mean is not divided by it.
        hard_share: share of the annotated pixels that counts, above 0, at most 1.
        hard_threshold: pixels count whose true class has a lower probability than this, above 0, at most 1.
        min_kept: with `hard_threshold`, so many pixels an image, on average over the batch, count in any case.

    Raises:
        ValueError: an option outside its range, or two that exclude each other.
    """
    _check(label_smoothing, hard_share, hard_threshold, min_kept)
    if target.ndim == logits.ndim:
        losses, weights = _of_sigmoids(logits, target, class_weights, label_smoothing, positive_weight)
    elif positive_weight is not None:
        raise ValueError("positive_weight is of sigmoid outputs; for a softmax there is class_weights")
    else:
        losses, weights = _of_softmax(logits, target, class_weights, label_smoothing)
    if hard_share is not None or hard_threshold is not None:
        plain = class_weights is None and positive_weight is None and label_smoothing == 0
        hardness = losses.detach() if plain else _unweighted(logits.detach(), target)
        hardest = _hardest(hardness, target >= 0, hard_share, min_kept * len(target))
        if hard_threshold is not None:
            hardest = hardest | (hardness > -math.log(hard_threshold))
        losses, weights = losses * hardest, weights * hardest
    return mean_over(losses, weights)


def _of_softmax(
    logits: Tensor, target: Tensor, class_weights: Sequence[float] | None, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Weighted losses (B, H, W), and the weights that their mean is divided by; both 0 where ignored."""
    weights, per_class = (target >= 0).to(logits.dtype), None
    if class_weights is not None:
        per_class = class_tensor(class_weights, logits.shape[1], logits)
        weights = weights * per_class[target.clamp_min(0)]
    losses = F.cross_entropy(logits, target, per_class, ignore_index=-1, reduction="none", label_smoothing=smoothing)
    return losses, weights


def _of_sigmoids(
    logits: Tensor,
    target: Tensor,
    class_weights: Sequence[float] | None,
    smoothing: float,
    positive_weight: float | None,
) -> tuple[Tensor, Tensor]:
    """The same for (B, K, H, W) layers."""
    weights = (target >= 0).to(logits.dtype)
    if class_weights is not None:
        weights = weights * class_tensor(class_weights, logits.shape[1], logits)[:, None, None]
    positive = None
    if positive_weight is not None:
        positive = class_tensor([positive_weight], 1, logits, "positive_weight")
    truth = (target > 0).to(logits.dtype)
    if smoothing:
        truth = truth * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, truth, pos_weight=positive, reduction="none") * weights, weights


def _unweighted(logits: Tensor, target: Tensor) -> Tensor:
    if target.ndim == logits.ndim:
        return F.softplus(torch.where(target > 0, -logits, logits))
    return F.cross_entropy(logits, target, ignore_index=-1, reduction="none")


def _hardest(hardness: Tensor, valid: Tensor, share: float | None, least: int) -> Tensor:
    """Which are the hardest annotated pixels, so many or such a share; bool, same shape. If too few are, others, too.

    How many are annotated is only known on the device, so they are ranked by sorting all, the others last.
    """
    order = torch.where(valid, hardness, -1).flatten().argsort(descending=True)
    ranks = torch.arange(order.numel(), device=order.device)
    if share is None:
        count: Tensor | int = least
    else:  # in millionths: a tenth of 30 is 3, which floating point may round up to 4
        count = (valid.sum() * max(1, round(share * 10**6)) + 10**6 - 1) // 10**6
    among = ranks < count
    return torch.zeros_like(among).scatter(0, order, among).view_as(valid)


def _check(smoothing: float, share: float | None, threshold: float | None, min_kept: int) -> None:
    if not 0 <= smoothing < 1:
        raise ValueError(f"label_smoothing must be from 0 to below 1, not {smoothing}")
    for name, value in (("hard_share", share), ("hard_threshold", threshold)):
        if value is not None and not 0 < value <= 1:
            raise ValueError(f"{name} must be above 0 and at most 1, not {value}")
    if share is not None and threshold is not None:
        raise ValueError("hard_share and hard_threshold are two ways to choose pixels: give one of them")
    if min_kept < 0:
        raise ValueError(f"min_kept must be at least 0, not {min_kept}")
