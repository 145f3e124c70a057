"""Cross entropy of hard pixels alone, against a slow choice of them in NumPy and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vision_tasks.losses.cross_entropy import cross_entropy


def random_maps(layers: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(2, 4, 6, 5, generator=generator, dtype=torch.float64)
    shape, values = ((2, 4, 6, 5), 2) if layers else ((2, 6, 5), 4)
    return logits, torch.randint(-1, values, shape, generator=generator)


def slow(logits: Tensor, target: Tensor, keep: int | None, threshold: float | None, weights: list[float]) -> float:
    """One pixel after another: those of probability below the threshold, and the `keep` least probable."""
    chosen = []
    for place in np.ndindex(*target.shape):
        label = int(target[place])
        if label < 0:
            continue
        if target.ndim == 4:
            p = float(torch.sigmoid(logits[place]))
            chosen.append((p if label else 1 - p, weights[place[1]]))
        else:
            chosen.append((float(logits[place[0], :, place[1], place[2]].softmax(0)[label]), weights[label]))
    chosen.sort()
    kept = [c for i, c in enumerate(chosen) if (keep and i < keep) or (threshold and c[0] < threshold)]
    return sum(-math.log(p) * w for p, w in kept) / sum(w for _, w in kept)


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 4.0]])
@pytest.mark.parametrize("layers", [False, True])
def test_equals_a_slow_choice(layers: bool, weights: list[float] | None) -> None:
    logits, target = random_maps(layers)
    factors = weights or [1.0] * 4
    annotated = int((target >= 0).sum())
    cases: list[tuple[dict[str, Any], int | None, float | None]] = [
        ({"hard_share": 0.25}, math.ceil(0.25 * annotated), None),
        ({"hard_share": 1.0}, annotated, None),
        ({"hard_share": 1e-9}, 1, None),
        ({"hard_threshold": 0.3, "min_kept": 0}, None, 0.3),
        ({"hard_threshold": 0.001, "min_kept": 7}, 14, 0.001),
        ({"hard_threshold": 0.3, "min_kept": 2}, 4, 0.3),
        ({"hard_threshold": 0.3}, annotated, None),
    ]
    for options, keep, threshold in cases:
        found = cross_entropy(logits, target, class_weights=weights, **options)
        assert found.item() == pytest.approx(slow(logits, target, keep, threshold, factors)), options


def test_easy_pixels_get_no_gradient() -> None:
    logits, target = random_maps(layers=False)
    logits.requires_grad_()
    cross_entropy(logits, target, hard_share=0.1, label_smoothing=0.1).backward()
    assert logits.grad is not None
    learns = logits.grad.abs().sum(1) > 0
    assert int(learns.sum()) == math.ceil(0.1 * int((target >= 0).sum()))
    p = logits.detach().softmax(1).gather(1, target.clamp_min(0)[:, None])[:, 0]
    assert p[learns].max() < p[(target >= 0) & ~learns].min()
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, target, hard_share=0.1), logits)


def test_equally_hard_pixels_are_counted_one_by_one() -> None:
    logits, target = torch.zeros(1, 3, 5, 6, requires_grad=True), torch.zeros(1, 5, 6, dtype=torch.int64)
    cross_entropy(logits, target, hard_share=0.1).backward()
    assert logits.grad is not None
    assert int((logits.grad.abs().sum(1) > 0).sum()) == 3


@pytest.mark.parametrize("options", [{"hard_share": 0.5}, {"hard_threshold": 0.7, "min_kept": 5}])
@pytest.mark.parametrize("layers", [False, True])
def test_of_nothing(layers: bool, options: dict[str, Any]) -> None:
    logits, target = random_maps(layers)
    found = cross_entropy(logits.requires_grad_(), torch.full_like(target, -1), **options)
    found.backward()
    assert found.item() == 0
    assert logits.grad is not None
    assert logits.grad.eq(0).all()
