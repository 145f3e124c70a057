"""The focal loss of dense detectors: cross entropy in which what is already right hardly counts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sigmoid_focal_loss(logits: Tensor, truth: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of independent yes-or-no outputs (Lin et al. 2017, eq. 5); torchvision's, for truths of 0 and 1.

    Args:
        logits: any shape, float32 or float64. truth: bool, same shape.
        alpha: weight of positive outputs, 0..1; negative ones weigh 1 - alpha.
        gamma: how fast an output that is right stops counting, >= 0; 0 is weighted cross entropy.

    Returns:
        Loss of each output, same shape, >= 0.
    """
    # With the sign turned where the truth is positive, sigmoid(wrong) is 1 - p_t and softplus(wrong) is -log(p_t): a
    # dense head has ten million outputs an image, and this passes over them half as often as the formula does.
    wrong = torch.where(truth, -logits, logits)
    return torch.where(truth, alpha, 1 - alpha) * wrong.sigmoid().pow(gamma) * F.softplus(wrong)
