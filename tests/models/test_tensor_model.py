"""Every model as a function of tensors: the same answer as `predict`, and what `torch.export` makes of it."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from tests.small_darknet import CFGS
from tests.tiny_models import TINY, keep_all, tiny
from vision_tasks.models.tensor_model import TensorModel
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.boxes import clip
from vision_tasks.structures import Batch


def images_of(size: tuple[int, int], count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(size[0] * size[1])
    coarse = torch.rand(count, 3, 9, 9, generator=generator)
    return (torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1) * 255).round()


def eager(model: VisionModel, images: Tensor, sizes: list[tuple[int, int]]) -> list:
    """`predict` on the same pixels, on the network's grid, without resizing."""
    wrapped = TensorModel(model)
    seen: dict[str, Tensor] = {}
    original = model.tensors
    nothing = {"boxes": torch.zeros(len(images), 0, 4)}
    model.tensors = lambda pixels, _: seen.update(pixels=pixels) or nothing  # type: ignore
    try:
        wrapped(images, torch.tensor(sizes))
    finally:
        model.tensors = original  # type: ignore[method-assign]
    count = len(images)
    batch = Batch(seen["pixels"], sizes, sizes, [(1.0, 1.0)] * count, [(0.0, 0.0)] * count)
    return model.predict(batch)


def assert_same(found: dict[str, Tensor], expected: list) -> None:
    for i, want in enumerate(expected):
        count = int(found["count"][i])
        assert count == len(want) > 0
        gap = want.scores.diff().abs() > 1e-6
        alone = torch.cat((gap, gap.new_ones(1))) & torch.cat((gap.new_ones(1), gap))
        assert alone.sum() > 5  # of equal scores either may come first
        boxes = found["boxes"][i, :count]
        torch.testing.assert_close(boxes[alone], want.boxes[alone], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found["scores"][i, :count], want.scores, rtol=1e-4, atol=1e-5)
        assert (
            found["labels"][i, :count] == want.labels
        ).float().mean() > 0.98  # of equal scores either may come first
        for name in ("boxes", "scores", "labels"):
            assert (found[name][i, count:] == 0).all()
        if want.masks is not None:
            masks = found["masks"][i, :count]
            torch.testing.assert_close(masks[alone], want.masks.grid[alone], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_fixed_shapes_give_the_eager_answer(name: str) -> None:
    model = keep_all(tiny(name))
    images, sizes = images_of((64, 96), 2), [(64, 96), (50, 70)]
    with torch.inference_mode():
        found = TensorModel(model)(images, torch.tensor(sizes))
        assert_same(found, eager(model, images, sizes))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retinanet", "fcos", "yolox"])
def test_the_whole_model_is_captured_for_any_size(name: str) -> None:
    model = TensorModel(keep_all(tiny(name))).eval()
    example = (images_of((160, 224)), torch.tensor([[160, 224]]))  # a map of one cell would not be taken for any size
    any_side = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torchvision's and torch's own
        warnings.simplefilter("ignore", DeprecationWarning)
        program = torch.export.export(model, example, dynamic_shapes={"images": any_side, "image_sizes": None})
    captured = program.module()
    with torch.inference_mode():
        for size in ((160, 224), (224, 160), (201, 263)):
            images, sizes = images_of(size), torch.tensor([size])
            want, got = model(images, sizes), captured(images, sizes)
            assert int(want["count"]) > 0
            torch.testing.assert_close(got["scores"], want["scores"], rtol=1e-4, atol=1e-5)
            assert torch.equal(got["count"], want["count"])
            near = (got["boxes"] - want["boxes"]).abs().amax(-1) < 1e-2
            assert near.float().mean() > 0.98  # of equal scores either may come first


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("retinanet_v2", 96), ("ssd", 300), ("ssdlite", 320)])
def test_the_whole_model_is_captured_for_one_size(name: str, side: int) -> None:
    """SSD has one size by design: its last map is one cell, and its boxes are shares of the whole image."""
    model = TensorModel(keep_all(tiny(name))).eval()
    example = (images_of((side, side), 2), torch.tensor([[side, side], [side - 30, side - 10]]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        captured = torch.export.export(model, example).module()
    with torch.inference_mode():
        want, got = model(*example), captured(*example)
        assert (want["count"] > 0).all()
        torch.testing.assert_close(got["scores"], want["scores"], rtol=1e-4, atol=1e-5)
        near = (got["boxes"] - want["boxes"]).abs().amax(-1) < 1e-2
        assert near.float().mean() > 0.98  # of equal scores either may come first


def test_a_network_that_wants_its_images_in_the_middle_gets_them_there() -> None:
    model = keep_all(tiny("darknet", cfg=CFGS["v3"].replace("channels=3", "channels=3\nletter_box=1", 1)))
    generator = torch.Generator().manual_seed(3)
    images = [
        torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in ((24, 64), (64, 30))
    ]
    canvas = torch.full((2, 3, 64, 64), 7, dtype=torch.uint8)
    for place, image in zip(canvas, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    with torch.inference_mode():
        batch = model.preprocess(images)
        assert batch.offsets == [(0, 20), (17, 0)]
        wanted = model.predict(batch)
        found = TensorModel(model)(canvas, torch.tensor(batch.image_sizes))
    for i, want in enumerate(wanted):
        count = int(found["count"][i])
        assert want.boxes is not None
        assert count == len(want.boxes) > 10
        torch.testing.assert_close(found["scores"][i, :count], want.scores)
        torch.testing.assert_close(clip(found["boxes"][i, :count], want.size), want.boxes, rtol=1e-4, atol=1e-3)
        assert not found["boxes"][i, count:].any()
