"""Groups, rates and schedules, by hand."""

from __future__ import annotations

import pytest
import torch

import vision_tasks as vt
from vision_tasks.config import OptimizerConfig
from vision_tasks.training.averaging import AveragedModel
from vision_tasks.training.optimizer import make_optimizer, parameter_groups, rate_factor


def small(**options: object) -> vt.models.vision_model.VisionModel:
    return vt.create_model("faster_rcnn", ["a"], backbone="resnet_narrow", channels=16, hidden=16, **options)


def test_every_trainable_parameter_is_in_one_group() -> None:
    model = small(trainable_stages=3)
    groups = parameter_groups(model, OptimizerConfig(backbone_factor=0.1), 1.0)
    found = [id(p) for g in groups for p in g["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    names = {id(p): n for n, p in model.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert group["lr"] == (0.1 if name.startswith("backbone.") else 1.0)
            is_plain = name.endswith("bias") or "bn" in name or "downsample.1" in name
            assert group["weight_decay"] == (0.0 if is_plain else 1e-4), name
    decayed = parameter_groups(model, OptimizerConfig(decay_norms_and_biases=True), 1.0)
    assert {g["weight_decay"] for g in decayed} == {1e-4}


def test_rate_follows_the_images_per_step() -> None:
    optimizer = make_optimizer(small(), OptimizerConfig(rate=0.02, rate_for=16), images_per_step=4)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.005)
    plain = make_optimizer(small(), OptimizerConfig(rate=0.02), images_per_step=4)
    assert plain.param_groups[0]["lr"] == pytest.approx(0.02)


def test_schedules() -> None:
    steps = rate_factor(OptimizerConfig(schedule="multistep", milestones=[8, 11], warmup_steps=10), 1200, 100)
    assert steps(0) == pytest.approx(0.001)
    assert steps(5) == pytest.approx(0.001 + 0.999 * 0.5)
    assert [steps(s) for s in (10, 799, 800, 1099, 1100)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    cosine = rate_factor(OptimizerConfig(schedule="cosine", warmup_steps=0), 100, 10)
    assert [cosine(s) for s in (0, 50, 100)] == pytest.approx([1, 0.5, 0])
    ends_high = rate_factor(OptimizerConfig(schedule="cosine", warmup_steps=0, final=0.2), 100, 10)
    assert [ends_high(s) for s in (0, 50, 100)] == pytest.approx([1, 0.6, 0.2])
    short = rate_factor(OptimizerConfig(warmup_steps=500), 100, 10)
    assert short(10) == pytest.approx(1.0), "warm-up takes at most a tenth of the run"


def test_polynomial_schedule_is_torchs() -> None:
    """DeepLab's "poly": (1 - step / steps)^0.9; with a warm-up, over the steps after it."""
    for power in (0.9, 1.0, 2.0):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        reference = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=40, power=power)
        ours = rate_factor(OptimizerConfig(schedule="polynomial", power=power, warmup_steps=0), 40, 10)
        for step in range(43):
            assert ours(step) == pytest.approx(reference.get_last_lr()[0], abs=1e-12)
            optimizer.step()
            reference.step()
    warmed = rate_factor(OptimizerConfig(schedule="polynomial", warmup_steps=10), 110, 10)
    assert [warmed(s) for s in (0, 10, 60, 110)] == pytest.approx([0.001, 1, 0.5**0.9, 0])
    ends_high = rate_factor(OptimizerConfig(schedule="polynomial", warmup_steps=0, final=0.01), 100, 10)
    assert [ends_high(s) for s in (0, 75, 100, 120)] == pytest.approx([1, 0.01 + 0.99 * 0.25**0.9, 0.01, 0.01])


def test_average_is_the_recurrence_by_hand() -> None:
    model = small()
    averaged = AveragedModel(model, decay=0.9)
    start = model.heads["objects"].roi.fc7.weight.detach().clone()
    expected = start.clone()
    for step in range(1, 201):
        with torch.no_grad():
            model.heads["objects"].roi.fc7.weight.add_(1.0)
        averaged.update(model, step)
        keep = min(0.9, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * (start + step)
    found = averaged.module.heads["objects"].roi.fc7.weight
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    averaged.train()
    assert not averaged.module.training
