"""Models made ready for prediction: the same answers as the eager model's, and the eager model left alone."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.tiny_models import TINY, TINY_JOINT, TINY_MAPS, keep_all, tiny
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.speed import prepare as fast
from vision_tasks.inference.speed.compiled import compiler_problem
from vision_tasks.inference.speed.folding import is_batch_norm
from vision_tasks.inference.speed.prepare import SPEEDS, half_precision, prepare
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Prediction

CPU = torch.device("cpu")
_QUICK = ("faster_rcnn", "ssdlite", "deeplabv3", "multi_head")  # the last one has a RetinaNet's head
NAMES = [
    name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in (*TINY, *TINY_MAPS, *TINY_JOINT)
]


def picture(height: int = 90, width: int = 120, seed: int = 3) -> Tensor:
    coarse = torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0] * 255).to(torch.uint8)


@cache
def lively(name: str) -> VisionModel:
    return tiny(name).eval() if name == "darknet" else keep_all(tiny(name))


def predicted(model: VisionModel, image: Tensor) -> Prediction:
    with torch.inference_mode():
        return model.predict(model.preprocess([image]))[0]


@pytest.mark.parametrize("name", NAMES)
def test_exact_finds_the_same(name: str) -> None:
    model = lively(name)
    want, got = predicted(model, picture()), predicted(prepare(model, "exact", CPU), picture())
    if want.boxes is not None:
        assert got.boxes is not None
        assert len(got) == len(want) > 10
        torch.testing.assert_close(got.boxes, want.boxes, rtol=2e-4, atol=1e-2)
        torch.testing.assert_close(got.scores, want.scores, rtol=0, atol=1e-4)
        assert (got.labels == want.labels).all()
    if want.masks is not None:
        assert got.masks is not None
        torch.testing.assert_close(got.masks.grid, want.masks.grid, rtol=0, atol=1e-3)
    if want.semantic is not None:
        assert got.semantic is not None
        assert (got.semantic == want.semantic).float().mean() > 0.999


@pytest.mark.parametrize("name", NAMES)
def test_fast_computes_nearly_the_same_maps(name: str) -> None:
    """No further off than torch's own mixed precision, which knows nothing of folding."""
    model = lively(name)
    ready = prepare(model, "fast", CPU)
    with torch.inference_mode():
        batch = model.preprocess([picture()])
        want, got = model.features(batch.images), ready.features(batch.images)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model.features(batch.images)
    assert list(got) == list(want)
    for level, expected in want.items():
        assert got[level].dtype == half_precision(CPU)
        error, usual = ((m[level].float() - expected).norm() / expected.norm() for m in (got, mixed))
        assert error < 1.5 * usual, level
    found = predicted(ready, picture())
    for value in (found.boxes, found.scores):
        assert value is None or (value.dtype == torch.float32 and value.isfinite().all())
    if found.boxes is not None:
        assert len(found) > 10


@pytest.mark.slow
def test_the_callers_model_is_left_alone() -> None:
    model = tiny("mask_rcnn").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for speed in SPEEDS:
        prepare(model, speed, CPU)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_no_batch_norm_is_left_where_a_convolution_is_before_it() -> None:
    for name in ("mask_rcnn_v2", "yolox", "lraspp", "unet"):
        assert not any(is_batch_norm(module) for module in prepare(tiny(name), "exact", CPU).modules()), name


def test_what_finds_nothing_says_so() -> None:
    for name in ("mask_rcnn", "cascade_mask_rcnn"):
        model = tiny(name).eval()
        head = model.heads["objects"]
        head.rule = dataclasses.replace(head.rule, score_threshold=1.0)
        for speed in ("exact", "fast"):
            found = predicted(prepare(model, speed, CPU), picture())
            assert len(found) == 0
            assert found.masks is not None


def test_images_of_several_sizes_in_turn_and_together() -> None:
    """Weights are laid out for each size of map; no size may get those of another."""
    model = lively("faster_rcnn")
    ready = prepare(model, "exact", CPU)
    pictures = [picture(*size) for size in ((90, 120), (64, 64), (120, 70), (90, 120))]
    for image in pictures:
        torch.testing.assert_close(predicted(ready, image).boxes, predicted(model, image).boxes, rtol=0, atol=1e-2)
    with torch.inference_mode():
        for want, got in zip(*(m.predict(m.preprocess(pictures)) for m in (model, ready)), strict=True):
            torch.testing.assert_close(got.boxes, want.boxes, rtol=0, atol=1e-2)


def same_as_fast(model: VisionModel, ready: VisionModel) -> None:
    want, got = predicted(prepare(model, "fast", CPU), picture()), predicted(ready, picture())
    torch.testing.assert_close(got.boxes, want.boxes)
    torch.testing.assert_close(got.scores, want.scores)


@pytest.mark.slow
def test_max_without_a_compiler_is_fast_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fast, "compiler_problem", lambda device: "there is no C++ compiler (tried: c++)")
    model = lively("mask_rcnn")
    with caplog.at_level("WARNING", "vision_tasks"):
        ready = prepare(model, "max", CPU)
    assert "as fast does" in caplog.text
    assert "no C++ compiler" in caplog.text
    same_as_fast(model, ready)


def test_max_whose_compiler_breaks_down_is_fast_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(inner: nn.Module, **options: Any) -> Any:
        def run(*inputs: Any) -> Any:
            raise RuntimeError("the linker is on strike\nmore about it")

        return run

    monkeypatch.setattr(fast, "compiler_problem", lambda device: None)
    monkeypatch.setattr(torch, "compile", broken)
    model = lively("mask_rcnn")
    ready = prepare(model, "max", CPU)
    with caplog.at_level("WARNING", "vision_tasks"):
        same_as_fast(model, ready)
    assert caplog.text.count("the linker is on strike") == 1


@pytest.mark.slow
@pytest.mark.skipif(compiler_problem(CPU) is not None, reason="no compiler")
def test_max_compiled_is_as_near_as_fast() -> None:
    model = lively("fcos")
    ready = prepare(model, "max", CPU)
    with torch.inference_mode():
        batch = model.preprocess([picture()])
        want, got = model.features(batch.images), ready.features(batch.images)
    for level, expected in want.items():
        assert (got[level].float() - expected).norm() < 0.05 * expected.norm()
    assert len(predicted(ready, picture(64, 64))) > 10


def test_an_unknown_speed_is_refused() -> None:
    with pytest.raises(VisionTasksError, match="exact, fast, max"):
        prepare(tiny("fcos"), "quick", CPU)
