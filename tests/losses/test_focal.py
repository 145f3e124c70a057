"""Sigmoid focal loss against torchvision's, against values worked by hand, and its gradient against differences."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from vision_tasks.losses.focal import sigmoid_focal_loss


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.75, 1.0), (0.25, 1.5)])
def test_equals_torchvision(alpha: float, gamma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 7, generator=generator) * 5
    truth = torch.rand(200, 7, generator=generator) < 0.3
    theirs = logits.clone().requires_grad_()
    ours = logits.clone().requires_grad_()
    expected = torchvision_focal_loss(theirs, truth.float(), alpha, gamma)
    found = sigmoid_focal_loss(ours, truth, alpha, gamma)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    expected.sum().backward()
    found.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_by_hand() -> None:
    """Lin et al. 2017, section 3.2: with gamma 2 an example of p_t 0.9 weighs a hundredth of its cross entropy."""
    logits = torch.tensor([math.log(9), math.log(9), 0.0])  # p = 0.9, 0.9, 0.5
    found = sigmoid_focal_loss(logits, torch.tensor([True, False, False]))
    wanted = [0.25 * 0.01 * -math.log(0.9), 0.75 * 0.81 * -math.log(0.1), 0.75 * 0.25 * -math.log(0.5)]
    torch.testing.assert_close(found, torch.tensor(wanted))


@pytest.mark.parametrize("gamma", [2.0, 0.5])
def test_gradient_equals_differences(gamma: float) -> None:
    logits = torch.linspace(-6, 6, 26, dtype=torch.float64, requires_grad=True)
    truth = torch.arange(26) % 3 == 0
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, truth, 0.25, gamma), logits)


def test_far_from_zero_it_stays_finite() -> None:
    """The loss of a certain error is its logit; of a certainty nothing."""
    logits = torch.tensor([-1e4, 1e4, -1e4, 1e4], requires_grad=True)
    found = sigmoid_focal_loss(logits, torch.tensor([True, True, False, False]))
    assert found.tolist() == [2500, 0, 0, 7500]
    found.sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [-0.25, 0, 0, 0.75]


def test_of_nothing() -> None:
    logits = torch.zeros(0, 5, requires_grad=True)
    sigmoid_focal_loss(logits, torch.zeros(0, 5, dtype=torch.bool)).sum().backward()
    assert logits.grad is not None
