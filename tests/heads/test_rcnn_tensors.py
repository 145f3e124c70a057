"""The R-CNN heads' fixed-shape outputs: the same answer as `predict`, and what `torch.export` makes of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

import vision_tasks as vt
from tests.tiny_model import OPTIONS
from vision_tasks.models.tensor_model import TensorModel
from vision_tasks.models.vision_model import VisionModel

# torchvision's fake NMS calls what torch 2.15 has renamed: theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore:.*create_unbacked_symint:FutureWarning")

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "faster": ("faster_rcnn", {}),
    "deep": ("faster_rcnn", {"variant": "v2"}),
    "mask": ("mask_rcnn", {"mask_channels": 8}),
    "cascade": ("cascade_rcnn", {"masks": True, "mask_channels": 8}),
}


def tiny(kind: str, **options: Any) -> VisionModel:
    """Random weights with scores all over 0..1; few proposals and detections, so that both are cut."""
    torch.manual_seed(0)
    name, extra = KINDS[kind]
    few = {"test_proposals": (40, 30), "detections_per_image": 20, "score_threshold": 0.1}
    model = vt.create_model(name, ["cat", "dog", "owl"], **(OPTIONS | few | extra | options))
    head = model.heads["objects"]
    with torch.no_grad():
        for stage in [head.roi, *getattr(head, "later", [])]:
            stage.scores.weight *= 40
            stage.deltas.weight *= 10
        if head.mask is not None:
            head.mask.logits.weight *= 10
    return model


def batch_of(model: VisionModel, sizes: list[tuple[int, int]]) -> Any:
    images = [torch.rand(3, *s, generator=torch.Generator().manual_seed(i)) for i, s in enumerate(sizes)]
    return model.preprocess(images)


@pytest.mark.parametrize("sizes", [[(64, 80)], [(64, 80), (70, 64), (20, 100)]], ids=["one", "three"])
@pytest.mark.parametrize("kind", KINDS)
def test_fixed_output_equals_the_eager_prediction(kind: str, sizes: list[tuple[int, int]]) -> None:
    model = tiny(kind)
    batch = batch_of(model, sizes)
    batch.original_sizes = batch.image_sizes  # predictions on the network's grid
    batch.scales = [(1.0, 1.0)] * len(sizes)
    with torch.inference_mode():
        predictions = model.predict(batch)
        found = model.tensors(batch.images, torch.tensor(batch.image_sizes))
    assert found["boxes"].shape == (len(sizes), 20, 4)
    for i, want in enumerate(predictions):
        assert want.boxes is not None
        n = int(found["count"][i])
        assert n == len(want) > 5
        torch.testing.assert_close(found["boxes"][i, :n], want.boxes, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(found["scores"][i, :n], want.scores, rtol=1e-5, atol=1e-6)
        assert torch.equal(found["labels"][i, :n], want.labels)
        for field in found.values():
            assert field.ndim == 1 or not field[i, n:].any(), "zeros after the last detection"
        assert ("masks" in found) == (want.masks is not None)
        if want.masks is not None:
            assert found["masks"].shape == (len(sizes), 20, 28, 28)
            torch.testing.assert_close(found["masks"][i, :n], want.masks.grid, rtol=1e-4, atol=1e-5)


def test_what_fills_the_proposals_up_is_not_detected() -> None:
    model = tiny("faster", test_proposals=(40, 400), detections_per_image=300, score_threshold=0.01)
    head = model.heads["objects"]
    head.rule = dataclasses.replace(head.rule, min_size=0.0)  # which would drop the filling, boxes without extent
    batch = batch_of(model, [(64, 80)])
    with torch.inference_mode():
        found = model.tensors(batch.images, torch.tensor(batch.image_sizes))
        want = model.predict(batch)[0]
    assert found["count"] == len(want)
    torch.testing.assert_close(found["scores"][0, : len(want)], want.scores)


def test_an_image_without_detections_is_all_zeros() -> None:
    model = tiny("mask", score_threshold=0.999999)
    batch = batch_of(model, [(64, 80)])
    with torch.inference_mode():
        found = model.tensors(batch.images, torch.tensor(batch.image_sizes))
        assert len(model.predict(batch)[0]) == 0
    assert not any(field.any() for field in found.values())


def equal(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    for name, field in want.items():
        torch.testing.assert_close(got[name], field, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["deep", "cascade"])
def test_export_of_one_size(kind: str) -> None:
    model = TensorModel(tiny(kind)).eval()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([[64, 96], [60, 70]])
    with torch.no_grad():
        program = torch.export.export(model, (images, sizes), strict=False)
        other = images.flip(3)
        got, want = program.module()(other, sizes), model(other, sizes)
    assert (want["count"] > 5).all()
    equal(got, want)


@pytest.mark.slow
def test_export_of_any_size() -> None:
    model = TensorModel(tiny("mask")).eval()
    # P6 has more than one cell of 64 pixels along each side: `torch.export` treats a length of 1 as fixed.
    # Without names: older torch cannot put its conditions on the padded sides into words of named ones.
    sides = {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    shapes = {"images": sides, "image_sizes": None}

    def example(height: int, width: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(height)
        return (
            torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, generator=generator),
            torch.tensor([[height, width]]),
        )

    with torch.no_grad():
        program = torch.export.export(model, example(100, 140), dynamic_shapes=shapes, strict=False)
        for size in ((100, 140), (128, 70), (65, 260)):
            inputs = example(*size)
            got, want = program.module()(*inputs), model(*inputs)
            assert want["count"] > 5
            equal(got, want)
