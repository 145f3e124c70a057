"""Several models asked together: labels matched by name, boxes fused, maps averaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import vision_tasks as vt
from tests.inference.blob_model import blob_model, scene
from tests.inference.local_model import local_model, picture
from tests.tiny_model import tiny_model
from tests.tiny_models import TINY, TINY_JOINT
from vision_tasks.inference.looks.ensemble import Ensemble
from vision_tasks.inference.looks.merging import fuse
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.weighted_fusion import weighted_boxes_fusion
from vision_tasks.structures import Prediction


def ask(models: Any, image: torch.Tensor, **options: Any) -> Prediction:
    return vt.Predictor(models, device="cpu", **({"threshold": 0.0} | options))(image)


def test_boxes_are_those_of_weighted_fusion() -> None:
    models = [tiny_model(seed=1), tiny_model(seed=2, min_size=48)]
    image = picture(64, 96)
    each = [ask(model, image) for model in models]
    together = ask(models, image, weights=(2, 1))
    fused = weighted_boxes_fusion(
        torch.cat([p.boxes for p in each]),
        torch.cat([p.scores for p in each]),
        torch.cat([p.labels for p in each]),
        torch.tensor([0] * len(each[0]) + [1] * len(each[1])),
        (2, 1),
        0.5,  # Faster R-CNN's own
    )
    count = len(together)
    assert 10 < count <= 100
    torch.testing.assert_close(together.boxes, fused.boxes[:count], atol=1e-3, rtol=0)
    torch.testing.assert_close(together.scores, fused.scores[:count], atol=1e-5, rtol=0)


def test_what_one_of_two_sees_scores_half() -> None:
    image = scene(60, 80, [(10, 10, 30, 30, 0, 0.9), (50, 10, 53, 13, 1, 0.8)])
    both = ask([blob_model(), blob_model(smallest=100)], image)
    assert both.labels.tolist() == [0, 1]
    assert both.scores.tolist() == pytest.approx([0.902, 0.4], abs=2e-3)
    weighted = ask([blob_model(), blob_model(smallest=100)], image, weights=(3, 1))
    assert weighted.scores.tolist() == pytest.approx([0.902, 0.6], abs=2e-3)
    best = ask([blob_model(), blob_model(smallest=100)], image, fuse="nms")
    assert best.scores.tolist() == pytest.approx([0.902, 0.8], abs=2e-3)


@pytest.mark.parametrize("fuse_by", ["wbf", "nms", "soft_linear", "soft_gaussian"])
def test_categories_in_another_order_are_matched_by_name(fuse_by: Any) -> None:
    # The second model calls the first channel "green": it finds red things where the first finds green ones.
    image = scene(60, 80, [(10, 10, 30, 30, 0, 0.9)])
    models = [blob_model(("red", "green")), blob_model(("green", "red"))]
    both = ask(models, image, fuse=fuse_by)
    assert both.labels.tolist() == [0, 1]
    assert both.categories.names == ("red", "green")
    swapped = ask(models[::-1], image, fuse=fuse_by)
    assert swapped.categories.names == ("green", "red")
    assert {both.categories.names[i] for i in both.labels} == {swapped.categories.names[i] for i in swapped.labels}


def test_soft_suppression_lowers_what_overlaps() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10]])
    one, two = (
        Prediction((20, 20), vt.Categories.of(["a"]), b[None], torch.tensor([0]), torch.tensor([s]))
        for b, s in zip(boxes, (0.9, 0.8), strict=True)
    )
    found = fuse([one, two], "soft_linear", 0.5)
    assert found.scores.tolist() == pytest.approx([0.9, 0.8 * (1 - 80 / 120)])
    assert len(fuse([one, two], "nms", 0.5)) == 1
    found = fuse([one, two], "nms", 0.5, weights=(1, 2))
    assert found.boxes.tolist() == [boxes[1].tolist()]
    assert found.scores.tolist() == pytest.approx([0.8])


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("weights", [None, (3, 1)])
@torch.inference_mode()
def test_maps_are_the_mean_of_the_models(multi_label: bool, weights: Any) -> None:
    models = [local_model(multi_label=multi_label), local_model((2, 1), "cadbe", multi_label=multi_label)]
    image = picture(64, 96)
    order = ["cadbe".index(name) for name in "abcde"]
    shares = torch.tensor(weights or (1, 1)) / sum(weights or (1, 1))
    mean = torch.zeros(5, 64, 96)
    for model, share in zip(models, shares, strict=True):
        head = model.heads["semantic"]
        logits = head.logits(model.features(model.preprocess([image]).images), (64, 96))
        full = torch.nn.functional.interpolate(logits, size=(64, 96), mode="bilinear")[0]
        found = full.sigmoid() if multi_label else full.softmax(0)
        mean += share * (found if model is models[0] else found[order])
    together = ask(models, image, weights=weights)
    assert together.semantic_categories.names == tuple("abcde")
    if multi_label:
        sure = (mean - 0.5).abs() > 1e-4
        assert torch.equal(together.semantic[sure], (mean > 0.5)[sure])
    else:
        top = mean.topk(2, dim=0).values
        sure = top[0] - top[1] > 1e-4
        assert torch.equal(together.semantic.long()[sure], mean.argmax(0)[sure])
    assert sure.float().mean() > 0.99


def test_a_model_with_itself_says_the_same() -> None:
    model, image = tiny_model(), picture(64, 96)
    alone, twice = ask(model, image, fuse="nms"), ask([model, model], image, fuse="nms")
    torch.testing.assert_close(twice.boxes, alone.boxes[: len(twice)], atol=1e-4, rtol=0)
    model = local_model()
    assert torch.equal(ask([model, model], image).semantic, ask(model, image).semantic)


@pytest.mark.parametrize("name", sorted(TINY_JOINT))
@pytest.mark.slow
def test_objects_and_maps_and_both_merged(name: str) -> None:
    builder, options = TINY_JOINT[name]
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        categories = {"objects": ["a", "b"], "semantic": ["a", "b", "sky"]}
        models.append(vt.create_model(builder, categories, **options))
    image = picture(70, 100)
    for looks in ({}, {"flip": True}, {"flip": True, "tile": 64}):
        found = ask(models, image, **looks)
        assert found.boxes is not None
        assert found.semantic.shape == (70, 100)
        assert (found.panoptic is None) == (models[0].panoptic is None)
        alone = ask(models[0], image, **looks)
        assert alone.semantic.shape == (70, 100)
        assert (alone.panoptic is None) == (models[0].panoptic is None)


def test_masks_of_models_with_different_grids() -> None:
    models = [blob_model(masks=14), blob_model(masks=28)]
    found = ask(models, scene(60, 80, [(10, 10, 30, 30, 0, 0.9)]))
    assert found.masks.grid.shape == (1, 28, 28)
    assert (found.masks.grid > 0.9)[:, 2:-2, 2:-2].all()
    assert found.masks.grid.max() < 1.001


def test_checkpoints_and_models_mix(tmp_path: Path) -> None:
    model = tiny_model()
    vt.save(model, tmp_path / "a.ckpt")
    image = picture(64, 96)
    one = ask([model, tmp_path / "a.ckpt", str(tmp_path / "a.ckpt")], image)
    two = ask([model, model, model], image)
    torch.testing.assert_close(one.boxes, two.boxes)


def of(name: str, categories: list[str]) -> VisionModel:
    builder, options = TINY[name]
    return vt.create_model(builder, categories, **options)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (list, "at least one model"),
        (lambda: [of("fcos", ["a", "b"]), of("fcos", ["a", "c"])], "model 2 lacks b and adds c, compared with model 1"),
        (lambda: [of("fcos", ["a", "b"]), of("fcos", ["a"])], "model 2 lacks b, compared"),
        (lambda: [of("fcos", ["a", "a"]), of("fcos", ["a", "a"])], "several categories of one name .a."),
        (lambda: [of("fcos", ["a"]), of("mask_rcnn", ["a"])], "only model 2 has masks"),
        (lambda: [of("fcos", ["a"]), local_model(names="a")], "only model 1 finds objects"),
        (lambda: [local_model(), local_model(multi_label=True)], "one decides every category on its own"),
        (lambda: [blob_model(), blob_model(mean=(0.0,), std=(1.0,))], "images of 3 channels, model 2 of 1"),
    ],
)
def test_models_that_do_not_fit_together(models: Any, message: str) -> None:
    with pytest.raises(vt.VisionTasksError, match=message):
        vt.Predictor(models(), device="cpu")


@pytest.mark.parametrize("weights", [(1,), (1, 2, 3), (1, 0), (1, -1), (1, float("inf"))])
def test_weights_that_do_not_fit(weights: tuple[float, ...]) -> None:
    with pytest.raises(vt.VisionTasksError, match="2 models need as many weights, all positive"):
        Ensemble([blob_model(), blob_model()], weights)
