"""Losses of maps against segmentation_models_pytorch's and torch's, values and gradients in float64, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import segmentation_models_pytorch.losses as smp
import torch
from segmentation_models_pytorch.losses import lovasz as smp_lovasz
from segmentation_models_pytorch.losses._functional import softmax_focal_loss_with_logits
from torch import Tensor
from torch.nn import functional as F

from vision_tasks.losses.semantic import LOSSES, semantic_losses

IGNORED = 255


def maps(kind: str, seed: int = 0, ignored: float = 0.2, images: int = 3, k: int = 5) -> tuple[Tensor, Tensor]:
    """Logits (3, K, 7, 9) in float64 and a truth in which the last class never is, one image lacks another."""
    generator = torch.Generator().manual_seed(seed)
    k = 1 if kind == "binary" else k
    logits = 3 * torch.randn(images, k, 7, 9, generator=generator, dtype=torch.float64)
    if kind == "labels":
        target = torch.randint(0, k - 1, (images, 7, 9), generator=generator, dtype=torch.int16)
        target[0][target[0] == 1] = 0
    else:
        target = (torch.rand(images, k, 7, 9, generator=generator) < 0.4).to(torch.int8)
        if k > 1:
            target[:, -1], target[0, 1] = 0, 0
    target[torch.rand(target.shape, generator=generator) < ignored] = -1
    return logits, target


def ours(name: str, logits: Tensor, target: Tensor, **options: Any) -> Tensor:
    return semantic_losses(logits, target, {name: options})[name]


def same(
    name: str, kind: str, reference: Callable[[Tensor, Tensor], Tensor], target: Tensor | None = None, **o: Any
) -> None:
    """Value and gradient equal the reference's, which reads 255 as ignored."""
    logits, drawn = maps(kind)
    target = drawn if target is None else target
    a, b = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found, expected = ours(name, a, target, **o), reference(b, torch.where(target < 0, IGNORED, target.long()))
    assert expected.item() > 0
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7, check_dtype=False)
    found.backward()
    expected.backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-7)


MODES = {"labels": "multiclass", "layers": "multilabel", "binary": "binary"}
WEIGHTS = [0.5, 1.0, 0.0, 3.0, 2.0]


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("options", [{}, {"smooth": 2.0}, {"log": True}, {"log": True, "smooth": 0.5, "eps": 1e-3}])
def test_dice_and_jaccard_equal_smp(kind: str, options: dict[str, Any]) -> None:
    theirs = {"log_loss" if k == "log" else k: v for k, v in options.items()}
    for name, reference in (("dice", smp.DiceLoss), ("jaccard", smp.JaccardLoss)):
        same(name, kind, reference(MODES[kind], ignore_index=IGNORED, **theirs), **options)
        if kind != "binary":
            weighted = reference(MODES[kind], ignore_index=IGNORED, class_weights=WEIGHTS, **theirs)
            same(name, kind, weighted, class_weights=WEIGHTS, **options)


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(0.3, 0.7, 1.0), (0.9, 0.2, 0.75), (0.0, 1.0, 2.0)])
def test_tversky_equals_smp(kind: str, alpha: float, beta: float, gamma: float) -> None:
    reference = smp.TverskyLoss(MODES[kind], ignore_index=IGNORED, alpha=alpha, beta=beta, gamma=gamma, smooth=1.0)
    same("tversky", kind, reference, alpha=alpha, beta=beta, gamma=gamma, smooth=1.0)


@pytest.fixture
def lovasz_of_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """smp's Lovász losses take the slopes in float32 and refuse float64 for the rest."""
    slopes = smp_lovasz._lovasz_grad
    monkeypatch.setattr(smp_lovasz, "_lovasz_grad", lambda truth: slopes(truth).double())


@pytest.mark.usefixtures("lovasz_of_doubles")
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("kind", ["labels", "binary"])
def test_lovasz_equals_smp(kind: str, per_image: bool) -> None:
    same("lovasz", kind, smp.LovaszLoss(MODES[kind], per_image=per_image, ignore_index=IGNORED), per_image=per_image)


@pytest.mark.usefixtures("lovasz_of_doubles")
def test_every_layer_has_a_lovasz_loss_of_its_own() -> None:
    reference = smp.LovaszLoss("binary", ignore_index=IGNORED)
    same("lovasz", "layers", lambda x, y: torch.stack([reference(x[:, i], y[:, i]) for i in range(5)]).mean())


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize(("alpha", "gamma"), [(None, 2.0), (0.25, 2.0), (0.7, 1.5)])
def test_focal_of_sigmoids_equals_smp(kind: str, alpha: float | None, gamma: float) -> None:
    _, target = maps(kind)
    if kind == "layers":  # smp leaves a pixel out of all layers or of none, and fails otherwise
        target = torch.where((target < 0).any(1, keepdim=True), torch.ones_like(target), target)
    options: dict[str, Any] = {"one_vs_rest": True} if kind == "labels" else {}
    ignore = None if kind == "layers" else IGNORED
    reference = smp.FocalLoss(MODES[kind], alpha=alpha, gamma=gamma, ignore_index=ignore)
    same("focal", kind, reference, target, alpha=alpha, gamma=gamma, **options)
    if kind != "binary":
        weighted = smp.FocalLoss(MODES[kind], alpha=alpha, gamma=gamma, ignore_index=ignore, class_weights=WEIGHTS)
        same("focal", kind, weighted, target, alpha=alpha, gamma=gamma, class_weights=WEIGHTS, **options)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 2.5])
def test_focal_of_softmax_equals_smp(gamma: float) -> None:
    _, target = maps("labels", ignored=0)
    same("focal", "labels", lambda x, y: softmax_focal_loss_with_logits(x, y, gamma), target, gamma=gamma)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_equals_torch(smoothing: float, weights: list[float] | None) -> None:
    given = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    reference = torch.nn.CrossEntropyLoss(given, ignore_index=IGNORED, label_smoothing=smoothing)
    same("cross_entropy", "labels", reference, label_smoothing=smoothing, class_weights=weights)


def test_cross_entropy_equals_smp_where_nothing_is_ignored() -> None:
    """smp sums over classes and pixels and divides by all pixels, the ignored ones, too."""
    reference = smp.SoftCrossEntropyLoss(smooth_factor=0.2)
    same("cross_entropy", "labels", reference, maps("labels", ignored=0)[1], label_smoothing=0.2)
    target = maps("layers", ignored=0)[1]
    same("cross_entropy", "layers", lambda x, y: smp.SoftBCEWithLogitsLoss()(x, y.double()), target)
    smoothed = smp.SoftBCEWithLogitsLoss(smooth_factor=0.1)
    same("cross_entropy", "layers", lambda x, y: smoothed(x, y.double()), target, label_smoothing=0.2)
    positive = smp.SoftBCEWithLogitsLoss(pos_weight=torch.tensor(3.0))
    same("cross_entropy", "layers", lambda x, y: positive(x, y.double()), target, positive_weight=3)


def test_cross_entropy_of_layers_is_the_mean_over_what_is_annotated() -> None:
    def reference(logits: Tensor, target: Tensor) -> Tensor:
        weights = torch.tensor(WEIGHTS)[:, None, None].expand_as(logits)[target != IGNORED]
        losses = F.binary_cross_entropy_with_logits(
            logits[target != IGNORED], target[target != IGNORED].double(), reduction="none"
        )
        return (losses * weights).sum() / weights.sum()

    same("cross_entropy", "layers", reference, class_weights=WEIGHTS)


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_equal_differences(name: str, kind: str) -> None:
    logits, target = maps(kind, images=2)
    logits, target = logits[..., :4, :5].clone(), target[..., :4, :5]
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ours(name, x, target), logits)
    if name in ("dice", "jaccard", "tversky", "lovasz"):
        assert torch.autograd.gradcheck(lambda x: ours(name, x, target, per_image=True), logits)


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("name", LOSSES)
def test_what_is_ignored_counts_nowhere(name: str, kind: str) -> None:
    """Neither its logits nor a whole image of it, and certain wrong ones get no gradient."""
    logits, target = maps(kind)
    spoilt = torch.where((target < 0) if kind != "labels" else (target < 0)[:, None], 1e4, logits).requires_grad_()
    expected = ours(name, logits, target)
    found = ours(name, spoilt, target)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert spoilt.grad is not None
    at = spoilt.grad[(target < 0) if kind != "labels" else (target < 0)[:, None].expand_as(logits)]
    assert at.eq(0).all()
    torch.testing.assert_close(ours(name, logits, torch.where(target < 0, -100, target)), expected)
    more = ours(name, torch.cat([logits, logits[:1]]), torch.cat([target, torch.full_like(target[:1], -1)]))
    torch.testing.assert_close(more, expected)


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("name", LOSSES)
def test_nothing_annotated_is_zero_with_a_gradient(name: str, kind: str) -> None:
    logits, target = maps(kind)
    found = ours(name, logits.requires_grad_(), torch.full_like(target, -1))
    assert found.item() == 0
    found.backward()
    assert logits.grad is not None
    assert logits.grad.eq(0).all()


@pytest.mark.parametrize("k", [1, 2, 1000])
@pytest.mark.parametrize("name", LOSSES)
def test_one_to_a_thousand_classes_in_half_precision_and_far_from_zero(name: str, k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    logits = (300 * torch.randn(1, k, 6, 6, generator=generator)).bfloat16().requires_grad_()
    target = torch.randint(-1, k, (1, 6, 6), generator=generator, dtype=torch.int16)
    layers = torch.randint(-1, 2, (1, k, 6, 6), generator=generator, dtype=torch.int8)
    for truth in (target, layers):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = ours(name, logits, truth)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), ours(name, logits.detach().double(), truth), rtol=1e-4, atol=1e-5)
        (gradient,) = torch.autograd.grad(found, logits)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["focal", "tversky"])
def test_exponents_below_one_have_finite_gradients_at_the_optimum(name: str) -> None:
    logits = torch.tensor([100.0, -100.0])[None, :, None, None].expand(1, 2, 3, 3).clone().requires_grad_()
    ours(name, logits, torch.zeros(1, 3, 3, dtype=torch.int16), gamma=0.5).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_overlap_by_hand() -> None:
    """Two pixels of class 0, one of class 1, one ignored; probabilities of class 0: 0.8, 0.5, 0.4."""
    logits = torch.tensor([0.8, 0.5, 0.4, 0.9], dtype=torch.float64).logit()
    logits = torch.stack([logits, torch.zeros_like(logits)])[None, :, None]
    target = torch.tensor([[[0, 0, 1, -1]]])
    # Class 0: TP 1.3, FP 0.4, FN 0.7. Class 1: TP 0.6, FP 0.7, FN 0.4.
    assert ours("dice", logits, target).item() == pytest.approx(1 - (2.6 / 3.7 + 1.2 / 2.3) / 2)
    assert ours("jaccard", logits, target).item() == pytest.approx(1 - (1.3 / 2.4 + 0.6 / 1.7) / 2)
    expected = 1 - (2.3 / (2.3 + 0.2 * 0.4 + 0.8 * 0.7) + 1.6 / (1.6 + 0.2 * 0.7 + 0.8 * 0.4)) / 2
    assert ours("tversky", logits, target, alpha=0.2, beta=0.8, smooth=1).item() == pytest.approx(expected)
    # Of each image, of which the second lacks class 1: TP 0.8, FP 0, FN 0.2; and the third has no annotation.
    images = torch.cat([logits, logits, logits])
    targets = torch.stack([target[0], torch.tensor([[0, -1, -1, -1]]), torch.tensor([[-1, -1, -1, -1]])])
    first, second = [1 - 1.3 / 2.4, 1 - 0.6 / 1.7], 1 - 0.8
    values = {
        absent: ours("jaccard", images, targets, per_image=True, absent=absent) for absent in ("zero", "skip", "count")
    }
    assert values["zero"].item() == pytest.approx((sum(first) + second) / 4)
    assert values["skip"].item() == pytest.approx((sum(first) + second) / 3)
    assert values["count"].item() == pytest.approx((sum(first) + second + 1) / 4)


def test_an_absent_class_can_teach_that_nothing_is_there() -> None:
    logits, target = torch.zeros(1, 1, 4, 4, dtype=torch.float64), torch.zeros(1, 1, 4, 4, dtype=torch.int8)
    assert ours("dice", logits, target, smooth=1.0).item() == 0
    assert ours("dice", logits, target, smooth=1.0, absent="count").item() == pytest.approx(1 - 1 / (1 + 0.5 * 8))


def test_lovasz_by_hand() -> None:
    """Errors 0.7 (false), 0.4 (missed), 0.1 (true) of one layer: hinge of margin 1."""
    logits = torch.tensor([-0.3, 0.6, 0.9])[None, None, None]
    target = torch.tensor([0, 1, 1], dtype=torch.int8)[None, None, None]
    # Union grows from 2 to 3 at the false one: 1 - 2/3; then intersection falls: 1/3 each.
    assert ours("lovasz", logits, target).item() == pytest.approx(0.7 / 3 + 0.4 / 3 + 0.1 / 3)


@pytest.mark.slow
def test_lovasz_of_millions_of_pixels_keeps_its_digits() -> None:
    """Neighbouring Jaccard indices of four million pixels differ by less than float32 has room for."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 1, 2000, 2000, generator=generator)
    target = torch.randint(0, 2, (1, 1, 2000, 2000), generator=generator, dtype=torch.int8)
    single, double = logits.clone().requires_grad_(), logits.double().requires_grad_()
    for x in (single, double):
        ours("lovasz", x, target).backward()
    assert single.grad is not None
    assert double.grad is not None
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-4, atol=1e-10)
