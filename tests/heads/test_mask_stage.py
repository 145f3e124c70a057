"""The mask stage, and all R-CNNs with masks, on batches that training meets sooner or later."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

import vision_tasks as vt
from tests.heads.test_faster_rcnn_edge_cases import BATCHES, BOX, OTHER, SIZE, target
from tests.tiny_model import OPTIONS
from vision_tasks.heads.roi_mask import RoIMaskStage
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.masks import from_polygons, render
from vision_tasks.ops.matching import BACKGROUND
from vision_tasks.structures import Batch, Masks, Target

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "v1": ("mask_rcnn", {}),
    "v2": ("mask_rcnn", {"variant": "v2"}),
    "cascade": ("cascade_rcnn", {"masks": True}),
}


def tiny(kind: str, **options: Any) -> VisionModel:
    torch.manual_seed(0)
    name, extra = KINDS[kind]
    return vt.create_model(name, ["cat", "dog"], **(OPTIONS | {"mask_channels": 8} | extra | options))


def diamond(box: list[float]) -> np.ndarray:
    x1, y1, x2, y2 = box
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return np.array([[x, y1], [x2, y], [x, y2], [x1, y]], dtype=np.float32)


def with_masks(truth: Target) -> Target:
    if truth.boxes is None:
        return truth
    shapes: list[Any] = [[diamond(box)] for box in truth.boxes.tolist()]
    if len(shapes) > 1:
        shapes[1] = from_polygons(shapes[1], truth.size)
    return dataclasses.replace(truth, masks=Masks(truth.size, shapes=shapes))


# What the other kinds are tried on, too, in the fast part.
TOLD_APART = ("ordinary", "no boxes at all", "one pixel", "none annotated")


def losses(model: VisionModel, targets: list[Target]) -> dict[str, Tensor]:
    images = [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(i)) for i in range(len(targets))]
    torch.manual_seed(1)
    return model.train().losses(model.preprocess(images, targets))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=[] if kind == "v1" or name in TOLD_APART else [pytest.mark.slow])
        for name in BATCHES
        for kind in KINDS
    ],
)
def test_losses_are_finite_and_every_parameter_gets_a_gradient(kind: str, name: str) -> None:
    model = tiny(kind, rois_per_image=64)
    found = losses(model, [with_masks(t) for t in BATCHES[name]])
    assert "objects/mask" in found
    assert all(loss.isfinite() and loss >= 0 and loss.ndim == 0 for loss in found.values()), found
    sum(found.values()).backward()  # type: ignore[union-attr]
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    for buffer_name, buffer in model.named_buffers():
        assert not buffer.is_floating_point() or buffer.isfinite().all(), buffer_name


@pytest.mark.parametrize("kind", KINDS)
def test_in_half_precision_losses_and_masks_stay_float32(kind: str) -> None:
    model = tiny(kind, rois_per_image=64, norm="frozen")
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(model, [with_masks(t) for t in BATCHES["ordinary"]])
        with torch.inference_mode():
            picture = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0))
            prediction = model.eval().predict(model.preprocess([picture]))[0]
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in found.values())
    assert prediction.masks is not None
    assert prediction.masks.grid is not None
    assert prediction.masks.grid.dtype == torch.float32
    assert len(prediction) > 1
    sum(found.values()).backward()  # type: ignore[union-attr]
    exact = losses(tiny(kind, rois_per_image=64, norm="frozen"), [with_masks(t) for t in BATCHES["ordinary"]])
    torch.testing.assert_close(found["objects/mask"], exact["objects/mask"], rtol=0.05, atol=0.01)


def test_masks_nobody_drew_teach_nothing() -> None:
    model = tiny("v1")
    drawn, undrawn = with_masks(target([BOX, OTHER])), target([BOX])
    assert losses(model, [drawn])["objects/mask"] > 0
    assert losses(model, [undrawn])["objects/mask"] == 0
    assert losses(model, [undrawn])["objects/roi_class"] > 0


def test_an_image_without_masks_leaves_the_others_loss_alone() -> None:
    stage = stage_on_noise()
    features = {"P2": torch.rand(2, 4, 16, 20, generator=torch.Generator().manual_seed(2))}
    one, none = with_masks(target([BOX])), target([OTHER])
    found = [(torch.tensor([BOX]), torch.tensor([0])), (torch.tensor([OTHER]), torch.tensor([0]))]
    columns = torch.tensor([1, 2])
    alone = stage.loss({"P2": features["P2"][:1]}, found[:1], batch_of([one]), columns)
    both = stage.loss(features, found, batch_of([one, none]), columns)
    torch.testing.assert_close(alone, both)
    holes = dataclasses.replace(none, masks=Masks(SIZE, shapes=[None]))
    torch.testing.assert_close(stage.loss(features, found, batch_of([one, holes]), columns), alone)


def stage_on_noise(outputs: int = 3) -> RoIMaskStage:
    torch.manual_seed(0)
    return RoIMaskStage(4, ["P2"], [4], outputs, width=6, depth=1)


def batch_of(targets: list[Target]) -> Batch:
    n = len(targets)
    return Batch(torch.zeros(n, 3, *SIZE), [SIZE] * n, [SIZE] * n, [(1.0, 1.0)] * n, [(0.0, 0.0)] * n, targets)


def test_loss_is_cross_entropy_with_the_aligned_bitmap_of_the_true_class() -> None:
    stage = stage_on_noise()
    features = {"P2": torch.rand(1, 4, 16, 20, generator=torch.Generator().manual_seed(2))}
    truth = with_masks(target([BOX, OTHER]))  # labels 0 and 1
    proposals = torch.tensor([[4.0, 8, 38, 52], [0, 0, 9, 9], [33, 17, 72, 55]])
    matches = torch.tensor([0, BACKGROUND, 1])
    found = stage.loss(features, [(proposals, matches)], batch_of([truth]), torch.tensor([1, 2]))
    assert truth.masks is not None
    bitmaps = render(truth.masks).float()[:, None]
    positives = proposals[[0, 2]]
    wanted = roi_align(bitmaps, torch.cat((torch.tensor([[0.0], [1]]), positives), 1), 28, 1.0)[:, 0]
    # The stage's own parts, put together the plain way: every class's mask, then the true one.
    pooled = roi_align(features["P2"], torch.cat((torch.zeros(2, 1), positives), 1), 14, 1 / 4, 2)
    everything = stage.logits(F.relu(stage.upsample(stage.convs(pooled))))
    logits = torch.stack((everything[0, 1], everything[1, 2]))
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(logits, wanted), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_follow_their_boxes_to_the_original_image(kind: str) -> None:
    model = tiny(kind, score_threshold=0.01, detections_per_image=7)
    # 128 pixels wide become 96: boxes grow by a third on the way back.
    picture = torch.rand(3, 85, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = model.predict(model.preprocess([picture]))[0]
    assert found.masks is not None
    assert found.masks.grid is not None
    assert len(found) == 7
    assert found.masks.size == found.size == (85, 128)
    assert torch.equal(found.masks.boxes, found.boxes)
    assert found.masks.grid.shape == (7, 28, 28)
    assert found.masks.grid.min() >= 0
    assert found.masks.grid.max() <= 1
    bitmaps = render(found.masks, threshold=0.0)
    assert bitmaps.shape == (7, 85, 128)
    assert bitmaps.any()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_slivers_are_predicted(kind: str, size: tuple[int, int]) -> None:
    model = tiny(kind, score_threshold=0.01)
    with torch.inference_mode():
        found = model.predict(model.preprocess([torch.rand(3, *size)]))[0]
    assert found.masks is not None
    assert len(found.masks) == len(found)


@pytest.mark.parametrize("method", ["nms", "agnostic", "diou", "soft_linear", "soft_gaussian"])
def test_every_suppression_gives_sorted_masks(method: str) -> None:
    model = tiny("v1", score_threshold=0.2, suppression=method)
    with torch.inference_mode():
        found = model.predict(model.preprocess([torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0))]))[0]
    assert found.scores is not None
    assert found.masks is not None
    assert len(found.masks) == len(found) > 1
    assert (found.scores.diff() <= 0).all()


def test_a_step_of_training_lowers_the_mask_loss() -> None:
    model = tiny("v1", norm="frozen").train()
    # Masks begin undecided, at ln 2, where slopes are small.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    values = []
    for _ in range(20):
        found = losses(model, [with_masks(target([BOX, OTHER]))])
        optimizer.zero_grad()
        sum(found.values()).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        values.append(found["objects/mask"].item())
    assert values[-1] < 0.9 * values[0]
