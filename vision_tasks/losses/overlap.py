"""Losses of overlap, one number a class: Dice, Jaccard, and Tversky, which holds both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from vision_tasks.losses.means import class_tensor, mean_over

Absent = Literal["zero", "skip", "count"]


def dice(
    logits: Tensor,
    target: Tensor,
    *,
    smooth: float = 0.0,
    eps: float = 1e-7,
    log: bool = False,
    per_image: bool = False,
    absent: Absent = "zero",
    class_weights: Sequence[float] | None = None,
) -> Tensor:
    """One minus the soft Dice coefficient, 2 TP / (2 TP + FP + FN); see `tversky`, of which it is alpha = beta = 0.5.

    Args:
        logits, target, smooth, eps, log, per_image, absent, class_weights: as in `tversky`.
    """
    return tversky(
        logits, target, smooth=smooth, eps=eps, log=log, per_image=per_image, absent=absent, class_weights=class_weights
    )


def jaccard(
    logits: Tensor,
    target: Tensor,
    *,
    smooth: float = 0.0,
    eps: float = 1e-7,
    log: bool = False,
    per_image: bool = False,
    absent: Absent = "zero",
    class_weights: Sequence[float] | None = None,
) -> Tensor:
    """One minus the soft intersection over union, TP / (TP + FP + FN); see `tversky`, of which it is alpha = beta = 1.

    Args:
        logits, target, smooth, eps, log, per_image, absent, class_weights: as in `tversky`.
    """
    return tversky(
        logits,
        target,
        alpha=1.0,
        beta=1.0,
        smooth=smooth,
        eps=eps,
        log=log,
        per_image=per_image,
        absent=absent,
        class_weights=class_weights,
    )


def tversky(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    gamma: float = 1.0,
    smooth: float = 0.0,
    eps: float = 1e-7,
    log: bool = False,
    per_image: bool = False,
    absent: Absent = "zero",
    class_weights: Sequence[float] | None = None,
) -> Tensor:
    """One minus Tversky's index, TP / (TP + alpha FP + beta FN), averaged over classes (Salehi et al. 2017).

    TP, FP and FN are sums of probabilities over the annotated pixels of the batch, or of each image. Equal to
    segmentation_models_pytorch with the same options. Of a softmax the ignored pixels only leave the sums.

    Args:
        logits: (B, K, H, W). target: (B, H, W) int64 labels, or (B, K, H, W) of 0 and 1; -1 is ignored.
        alpha, beta: what a false positive and a false negative weigh.
        gamma: exponent of the averaged loss, above 0 (focal Tversky).
        smooth: added above and below the line, in pixels.
        eps: least denominator, and least index that `log` sees.
        log: minus the index's logarithm in place of one minus the index.
        per_image: an index for each image in place of one for the batch; images without annotation count nowhere.
        absent: a class that no pixel is of has a loss of 0 and counts in the mean ("zero": as in smp, so that many
            absent classes make the loss small), or does not count ("skip"), or has whatever loss the formula says
            ("count": with smooth > 0, a learner of "nothing here").
        class_weights: of each class in the mean.

    Raises:
        ValueError: an option outside its range.
    """
    _check(alpha, beta, gamma, smooth, eps)
    inside, predicted, true, valid = _sums(logits, target)
    if not per_image:
        inside, predicted, true, valid = (x.sum(0, keepdim=True) for x in (inside, predicted, true, valid))
    index = (inside + smooth) / (inside + alpha * (predicted - inside) + beta * (true - inside) + smooth).clamp_min(eps)
    losses = -torch.log(index.clamp_min(eps)) if log else 1 - index
    weights = torch.ones_like(true)
    if class_weights is not None:
        weights = weights * class_tensor(class_weights, logits.shape[1], logits)
    annotated = valid > 0 if absent != "zero" else (valid > 0).any(1, keepdim=True)
    present = (true > 0) if absent != "count" else annotated
    weights = weights * (present if absent == "skip" else annotated)
    mean = mean_over(torch.where(present, losses, 0) * weights, weights)
    return mean if gamma == 1 else _power(mean, gamma)


def _sums(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each image and class, (B, K): probability where it is true, everywhere, pixels where it is true, annotated."""
    valid = target >= 0
    if target.ndim == logits.ndim:
        true = target > 0
        probability = logits.sigmoid() * valid
        pixels = (2, 3)
        inside = torch.where(true, probability, 0).sum(pixels)
        return inside, probability.sum(pixels), true.sum(pixels).to(inside), valid.sum(pixels).to(inside)
    b, k = logits.shape[:2]
    probability = logits.softmax(1)
    labels = target.clamp_min(0)
    # No map of zeros and ones per class: with a thousand classes it would be larger than all else.
    of_truth = probability.gather(1, labels[:, None])[:, 0] * valid
    empty = logits.new_zeros(b, k)
    inside = empty.scatter_add(1, labels.flatten(1), of_truth.flatten(1))
    true = empty.scatter_add(1, labels.flatten(1), valid.flatten(1).to(empty))
    predicted = (probability * valid[:, None]).sum((2, 3))
    return inside, predicted, true, valid.sum((1, 2))[:, None].expand(b, k).to(empty)


def _power(mean: Tensor, gamma: float) -> Tensor:
    """mean ** gamma, whose slope at 0 is endless for gamma < 1; there the loss has none."""
    above = mean > 0
    return torch.where(above, torch.where(above, mean, 1) ** gamma, 0 * mean)


def _check(alpha: float, beta: float, gamma: float, smooth: float, eps: float) -> None:
    for name, value in (("alpha", alpha), ("beta", beta), ("smooth", smooth)):
        if not value >= 0:
            raise ValueError(f"{name} must be at least 0, not {value}")
    for name, value in (("gamma", gamma), ("eps", eps)):
        if not value > 0:
            raise ValueError(f"{name} must be above 0, not {value}")
