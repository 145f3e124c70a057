"""RetinaNet and FCOS on batches that training meets sooner or later, and on odd images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import vision_tasks as vt
from tests.heads.test_faster_rcnn_edge_cases import BATCHES, BOX, OTHER, SIZE, target
from vision_tasks.heads.dense import DenseHead
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Target

MODELS: dict[str, dict[str, Any]] = {
    "retinanet": {"name": "retinanet", "anchor_sizes": (16, 32, 64, 128, 256)},
    "retinanet v2": {"name": "retinanet", "anchor_sizes": (16, 32, 64, 128, 256), "variant": "v2"},
    "fcos": {"name": "fcos"},
}
LOSSES = {"retinanet": ("class", "box"), "retinanet v2": ("class", "box"), "fcos": ("class", "box", "centerness")}


def tiny(which: str, seed: int = 0, **options: Any) -> VisionModel:
    """Random weights, with a classifier bold enough for scores all over 0..1."""
    torch.manual_seed(seed)
    small = {"backbone": "resnet_narrow", "channels": 16, "min_size": 64, "max_size": 128}
    model = vt.create_model(categories=("cat", "dog"), **(small | MODELS[which] | options))
    head = model.heads["objects"]
    with torch.no_grad():
        for layer in (*head.class_tower, *head.box_tower):
            if isinstance(
                layer, torch.nn.Conv2d
            ):  # the published start is for 256 channels; on 16 the signal dies away
                torch.nn.init.kaiming_normal_(layer.weight)
        head.class_logits.weight *= 20
        head.class_logits.bias.zero_()
    return model


def pictures(count: int) -> list[Tensor]:
    return [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(i)) for i in range(count)]


def losses(which: str, targets: list[Target], **options: Any) -> tuple[VisionModel, dict[str, Tensor]]:
    model = tiny(which, **options).train()
    return model, model.losses(model.preprocess(pictures(len(targets)), targets))


@pytest.mark.parametrize(
    ("name", "which"),
    [
        pytest.param(name, which, marks=[pytest.mark.slow] if which == "retinanet v2" and name != "ordinary" else [])
        for name in BATCHES
        for which in MODELS
    ],
)
def test_losses_are_finite_and_every_parameter_gets_a_gradient(which: str, name: str) -> None:
    # A parameter without one stops training on several processes.
    model, found = losses(which, BATCHES[name])
    assert set(found) == {f"objects/{n}" for n in LOSSES[which]}
    assert all(loss.isfinite() and loss >= 0 and loss.ndim == 0 for loss in found.values()), found
    sum(found.values()).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("which", MODELS)
def test_an_image_nobody_looked_at_teaches_nothing_but_an_empty_one_does(which: str) -> None:
    for name, learns in (("none annotated", False), ("no boxes at all", True)):
        _, found = losses(which, BATCHES[name])
        assert (found["objects/class"] > 0) == learns
        assert found["objects/box"] == 0
        assert found.get("objects/centerness", torch.zeros(())) == 0


@pytest.mark.parametrize("which", MODELS)
def test_an_image_nobody_looked_at_leaves_the_others_losses_alone(which: str) -> None:
    alone = losses(which, [target([BOX])], norm="frozen")[1]
    beside = losses(which, [target([BOX]), target(None)], norm="frozen")[1]
    torch.testing.assert_close(beside, alone)
    assert alone["objects/box"] > 0


@pytest.mark.parametrize("which", MODELS)
def test_a_crowd_is_background(which: str) -> None:
    crowd = losses(which, [target([BOX, OTHER], True)])[1]
    nothing = losses(which, [target([])])[1]
    torch.testing.assert_close(crowd, nothing)
    mixed = losses(which, [target([BOX, OTHER], [False, True])])[1]
    single = losses(which, [target([BOX])])[1]
    torch.testing.assert_close(mixed, single)


@pytest.mark.parametrize("which", MODELS)
def test_a_step_of_training_lowers_the_loss_on_its_own_batch(which: str) -> None:
    model = tiny(which, norm="frozen").train()
    batch = model.preprocess(pictures(2), BATCHES["ordinary"])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(8):
        total = sum(model.losses(batch).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]


@pytest.mark.parametrize("which", MODELS)
@pytest.mark.parametrize("size", [(64, 80), (1, 1), (1, 300), (300, 1)])
def test_predictions_lie_inside_their_image(which: str, size: tuple[int, int]) -> None:
    model = tiny(which)
    picture = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = model.predict(model.preprocess([picture]))[0]
    assert len(found) > 0
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2] <= size[1]).all()
    assert (found.boxes[:, 3] <= size[0]).all()
    assert (found.scores > model.heads["objects"].rule.score_threshold).all()
    assert (found.scores.diff() <= 0).all()
    assert len(found) <= model.heads["objects"].rule.detections


@pytest.mark.parametrize("which", MODELS)
def test_fixed_shapes_say_the_same(which: str) -> None:
    model = tiny(which)
    batch = model.preprocess([torch.rand(3, 64, 80), torch.rand(3, 100, 60)])
    head = model.heads["objects"]
    with torch.inference_mode():
        features = model.features(batch.images)
        wanted = head.predict(features, batch)
        canvas = (batch.images.shape[-2], batch.images.shape[-1])
        found = head.tensors(features, torch.tensor(batch.image_sizes), canvas)
    assert found["boxes"].shape == (2, head.rule.detections, 4)
    for i, prediction in enumerate(wanted):
        count = int(found["count"][i])
        assert count == len(prediction) > 20
        torch.testing.assert_close(found["boxes"][i, :count], prediction.boxes)
        torch.testing.assert_close(found["scores"][i, :count], prediction.scores)
        assert torch.equal(found["labels"][i, :count], prediction.labels)
        assert not found["boxes"][i, count:].any()


@pytest.mark.parametrize("which", MODELS)
def test_class_parameters_are_those_that_grow_with_the_outputs(which: str) -> None:
    head = tiny(which).heads["objects"]
    wider = tiny(which, columns=(1, 5), outputs=7).heads["objects"]
    said = head.class_parameters()
    for (name, mine), yours in zip(head.named_parameters(), wider.parameters(), strict=True):
        assert (mine.shape != yours.shape) == (name in said), name
        if name in said:
            before, after = said[name]
            assert (len(mine), len(yours)) == (before * 2 * after, before * 7 * after)


@pytest.mark.parametrize("which", MODELS)
def test_only_the_outputs_of_columns_come_out(which: str) -> None:
    """And a label trains its own output: all others count as wrong."""
    model = tiny(which, columns=(1, 5), outputs=7)
    head = model.heads["objects"]
    with torch.no_grad():
        bias = head.class_logits.bias.view(-1, 7)
        bias[:] = 5
        bias[:, [1, 5]] = torch.tensor([-50.0, 3])
    with torch.inference_mode():
        found = model.predict(model.preprocess(pictures(1)))[0]
    assert set(found.labels.tolist()) == {1}
    head.class_logits.weight.grad = None
    batch = model.preprocess(pictures(1), [target([BOX, OTHER])])
    model.train().losses(batch)["objects/class"].backward()
    grad = head.class_logits.bias.grad.view(-1, 7).sum(0)
    assert (grad[[0, 2, 3, 4, 5, 6]] > 0).all()
    assert grad[1] < 0


@pytest.mark.parametrize("which", MODELS)
def test_autocast_changes_little(which: str) -> None:
    model = tiny(which, norm="frozen").train()
    batch = model.preprocess(pictures(2), BATCHES["ordinary"])
    exact = model.losses(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.losses(batch)
    for name, loss in exact.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], loss, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("which", MODELS)
def test_leaving_hopeless_anchors_out_early_changes_nothing(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for threshold in (0.3, 0.6, 0.999999):  # many pass, some, none
        model = tiny(which, score_threshold=threshold, columns=(1, 5), outputs=7)
        batch = model.preprocess(pictures(2))
        with torch.inference_mode():
            found = model.predict(batch)
            monkeypatch.setattr(type(model.heads["objects"]), "found", DenseHead.found)
            wanted = model.predict(batch)
            monkeypatch.undo()
        for mine, all_of_them in zip(found, wanted, strict=True):
            assert torch.equal(mine.boxes, all_of_them.boxes)
            assert torch.equal(mine.labels, all_of_them.labels)
            torch.testing.assert_close(mine.scores, all_of_them.scores)
            assert (len(mine) > 0) == (threshold < 0.9)
