"""The focal loss: cross entropy in which what is already right hardly counts (Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vision_tasks.losses.means import class_tensor, mean_over


def sigmoid_focal_loss(logits: Tensor, truth: Tensor, alpha: float | None = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of independent yes-or-no outputs (Lin et al. 2017, eq. 5); torchvision's, for truths of 0 and 1.

    Args:
        logits: any shape, float32 or float64. truth: bool, same shape.
        alpha: weight of positive outputs, 0..1; negative ones weigh 1 - alpha. None weighs all with 1.
        gamma: how fast an output that is right stops counting, >= 0; 0 is weighted cross entropy.

    Returns:
        Loss of each output, same shape, >= 0.
    """
    # With the sign turned where the truth is positive, sigmoid(wrong) is 1 - p_t and softplus(wrong) is -log(p_t): a
    # dense head has ten million outputs an image, and this passes over them half as often as the formula does.
    wrong = torch.where(truth, -logits, logits)
    losses = wrong.sigmoid().pow(gamma) * F.softplus(wrong)
    return losses if alpha is None else torch.where(truth, alpha, 1 - alpha) * losses


def focal(
    logits: Tensor,
    target: Tensor,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    class_weights: Sequence[float] | None = None,
    one_vs_rest: bool = False,
) -> Tensor:
    """Focal loss of semantic maps, the mean over annotated pixels; of layers, over annotated pixels of all layers.

    Of a softmax it is (1 - p)^gamma × cross entropy, p being the probability of the true class. With `one_vs_rest`
    every output is its own yes-or-no question, and the mean is over pixels and classes: what `FocalLoss` of
    segmentation_models_pytorch computes for labels.

    Args:
        logits: (B, K, H, W). target: (B, H, W) int64 labels, or (B, K, H, W) of 0 and 1; -1 is ignored.
        gamma, alpha: as in `sigmoid_focal_loss`; alpha is of sigmoids only.
        class_weights: of each class, K of them; the mean is divided by the sum of weights.

    Raises:
        ValueError: an option outside its range, or alpha for a softmax.
    """
    if not gamma >= 0:
        raise ValueError(f"gamma must be at least 0, not {gamma}")
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, not {alpha}")
    per_class = None if class_weights is None else class_tensor(class_weights, logits.shape[1], logits)
    valid = target >= 0
    if target.ndim == logits.ndim or one_vs_rest:
        if target.ndim < logits.ndim:
            truth = target[:, None] == torch.arange(logits.shape[1], device=target.device)[:, None, None]
            valid = valid[:, None].expand_as(logits)
        else:
            truth = target > 0
        weights = valid.to(logits.dtype)
        if per_class is not None:
            weights = weights * per_class[:, None, None]
        return mean_over(sigmoid_focal_loss(logits, truth, alpha, gamma) * weights, weights)
    if alpha is not None:
        raise ValueError("alpha is of sigmoid outputs, or of one_vs_rest; for a softmax there is class_weights")
    losses = F.cross_entropy(logits, target, ignore_index=-1, reduction="none")
    # Without the clamp, a gamma below 1 would have an endless slope where a pixel is certain.
    losses = (-torch.expm1(-losses)).clamp_min(torch.finfo(losses.dtype).tiny) ** gamma * losses
    weights = valid.to(logits.dtype)
    if per_class is not None:
        weights = weights * per_class[target.clamp_min(0)]
    return mean_over(losses * weights, weights)
