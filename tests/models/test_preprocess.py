"""Preprocessing against torchvision's GeneralizedRCNNTransform."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from tests.tiny_model import tiny_model
from vision_tasks.errors import VisionTasksError
from vision_tasks.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from vision_tasks.models.vision_model import _on_original_grid
from vision_tasks.structures import Categories, Prediction, Target

SIZES = [
    [(48, 64)],
    [(100, 37), (37, 100), (64, 64)],
    [(128, 128)],
    [(31, 500)],
    [(500, 31), (40, 41)],
    [(1, 1)],
    [(2, 3), (333, 222)],
    [(427, 640), (640, 427)],
]


def image(size: tuple[int, int], seed: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    high = 65536 if dtype == torch.uint16 else 256
    values = torch.randint(0, high, (3, *size), generator=torch.Generator().manual_seed(seed))
    return values.to(dtype)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("min_size", "max_size"), [(64, 128), (100, 101), (333, 800)])
def test_equals_torchvision(sizes: list[tuple[int, int]], min_size: int, max_size: int) -> None:
    images = [image(size, seed) for seed, size in enumerate(sizes)]
    boxes = [torch.tensor([[0.0, 0, w, h], [w / 4, h / 5, w / 2, h / 2]]) for h, w in sizes]
    theirs = GeneralizedRCNNTransform(min_size, max_size, list(IMAGENET_MEAN), list(IMAGENET_STD)).eval()
    expected, truths = theirs([i / 255 for i in images], [{"boxes": b.clone()} for b in boxes])
    targets = [Target(i, size, boxes=b) for i, (size, b) in enumerate(zip(sizes, boxes, strict=True))]
    batch = Preprocess(min_size, max_size)(images, targets)
    assert batch.image_sizes == [tuple(s) for s in expected.image_sizes]
    assert batch.images.shape == expected.tensors.shape
    torch.testing.assert_close(batch.images, expected.tensors, rtol=0, atol=1e-5)
    assert batch.targets is not None
    assert truths is not None
    for target, truth, size in zip(batch.targets, truths, batch.image_sizes, strict=True):
        torch.testing.assert_close(target.boxes, truth["boxes"], rtol=1e-5, atol=1e-4)
        assert target.size == size


def test_every_dtype_gives_the_same_picture() -> None:
    eight = image((40, 50), 0)
    expected = Preprocess(64, 128)([eight]).images
    same = {
        "uint16": (eight.int() * 257).to(torch.uint16),
        "float32": eight / 255,
        "float64": eight.double() / 255,
    }
    for name, picture in same.items():
        torch.testing.assert_close(Preprocess(64, 128)([picture]).images, expected, rtol=0, atol=2e-5, msg=name)


def test_sixteen_bits_are_not_cut_to_eight() -> None:
    dark = torch.arange(64 * 64).reshape(1, 64, 64).expand(3, -1, -1).to(torch.uint16)
    batch = Preprocess(64, 64, mean=(0.0,) * 3, std=(1.0,) * 3)([dark])
    torch.testing.assert_close(batch.images[0], dark.float() / 65535, rtol=0, atol=1e-7)


@pytest.mark.parametrize("size", [(1, 2000), (2000, 1), (1, 1), (3, 4000)])
def test_no_side_vanishes(size: tuple[int, int]) -> None:
    batch = Preprocess(64, 128)([image(size, 0)])
    assert min(batch.image_sizes[0]) >= 1
    assert max(batch.image_sizes[0]) <= 128
    assert batch.images.isfinite().all()


def test_padding_is_zero_and_the_canvas_fits_the_stride() -> None:
    batch = Preprocess(50, 70, stride=32)([torch.full((3, 50, 60), 255, dtype=torch.uint8)])
    assert batch.images.shape[-2:] == (64, 64)
    assert batch.images[..., 50:, :].abs().max() == 0
    assert batch.images[..., :, 60:].abs().max() == 0
    assert batch.images[..., :50, :60].min() > 1


def test_another_shorter_side_for_multi_scale_training() -> None:
    assert Preprocess(64, 1000)([image((40, 50), 0)], min_size=80).image_sizes == [(80, 100)]
    assert Preprocess(64, 1000).network_size((40, 50)) == (64, 80)


def test_fields_of_a_target_follow_the_boxes() -> None:
    target = Target(
        9, (40, 50), boxes=torch.tensor([[5.0, 5, 15, 25]]), labels=torch.tensor([1]),
        area=torch.tensor([150.0]), is_crowd=torch.tensor([True]),
    )  # fmt: skip
    batch = Preprocess(80, 1000)([image((40, 50), 0)], [target])
    assert batch.targets is not None
    moved = batch.targets[0]
    assert moved.boxes is not None
    assert moved.area is not None
    assert moved.boxes.tolist() == [[10, 10, 30, 50]]
    assert moved.area.tolist() == [600]
    assert (moved.image_id, moved.labels, moved.is_crowd) == (9, target.labels, target.is_crowd)
    assert target.boxes is not None
    assert target.boxes[0, 0] == 5, "the given target is untouched"
    nobody = Preprocess(80, 1000)([image((40, 50), 0)], [Target(1, (40, 50))])
    assert nobody.targets is not None
    assert nobody.targets[0].boxes is None


@pytest.mark.parametrize("size", [(40, 50), (500, 31), (1, 1), (427, 640)])
def test_boxes_come_back_to_the_original_grid(size: tuple[int, int]) -> None:
    model = tiny_model()
    boxes = torch.tensor([[0.0, 0, size[1], size[0]], [size[1] / 3, size[0] / 4, size[1] / 2, size[0] / 2]])
    batch = model.preprocess([image(size, 0)], [Target(0, size, boxes=boxes)])
    assert batch.targets is not None
    head = model.heads["objects"]

    def truth_itself(features: object, batch: object) -> list:
        from vision_tasks.structures import Prediction

        return [Prediction(t.size, model.categories, boxes=t.boxes) for t in batch.targets]  # type: ignore[attr-defined]

    head.predict = truth_itself
    found = model.predict(batch)[0]
    assert found.size == size
    torch.testing.assert_close(found.boxes, boxes, rtol=1e-5, atol=1e-3)


def test_dictionary_and_back() -> None:
    one = Preprocess(123, 456, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), stride=64)
    assert Preprocess.from_dict(one.to_dict()) == one
    assert Preprocess.from_dict(one.to_dict() | {"mean": [0.1, 0.2, 0.3]}) == one
    assert set(one.to_dict()) == {f.name for f in dataclasses.fields(one)}


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(1, 5, 5), torch.zeros(4, 5, 5), torch.zeros(5, 5), torch.zeros(3, 0, 5), torch.zeros(1, 3, 5, 5),
        torch.zeros(3, 5, 5, dtype=torch.int64), torch.zeros(3, 5, 5, dtype=torch.bool),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused(bad: Tensor) -> None:
    with pytest.raises(VisionTasksError, match=r"\(3, H, W\)"):
        Preprocess()([bad])


def test_stretch_is_torchvisions_fixed_size() -> None:
    images = [image((48, 64), 0), image((100, 37), 1)]
    boxes = [torch.tensor([[4.0, 5, 40, 30]]), torch.tensor([[1.0, 2, 30, 90]])]
    theirs = GeneralizedRCNNTransform(
        300, 300, [0.48, 0.46, 0.41], [1 / 255] * 3, size_divisible=1, fixed_size=(320, 300)
    ).eval()  # torchvision's fixed size is (width, height)
    expected, truths = theirs([i / 255 for i in images], [{"boxes": b.clone()} for b in boxes])
    ours = Preprocess(resize="stretch", size=(300, 320), mean=(0.48, 0.46, 0.41), std=(1 / 255,) * 3, stride=1)
    targets = [Target(0, (i.shape[1], i.shape[2]), boxes=b) for i, b in zip(images, boxes, strict=True)]
    batch = ours(images, targets)
    assert batch.image_sizes == [(300, 320)] * 2
    torch.testing.assert_close(batch.images, expected.tensors, rtol=1e-5, atol=1e-3)
    assert truths is not None
    assert batch.targets is not None
    for target, truth in zip(batch.targets, truths, strict=True):
        torch.testing.assert_close(target.boxes, truth["boxes"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("place", ["corner", "center"])
def test_letterbox_by_hand(place: Literal["corner", "center"]) -> None:
    # 30 × 60 into 64 × 64: factor 64 / 60, so 32 × 64; 32 rows remain, all below, or 16 above and 16 below.
    white = torch.full((3, 30, 60), 255, dtype=torch.uint8)
    white[0] = 51  # red is 0.2
    rule = Preprocess(
        resize="letterbox", size=(64, 64), mean=(0.0,) * 3, std=(1 / 255,) * 3, channel_order="bgr",
        pad_value=114 / 255, place=place,
    )  # fmt: skip
    target = Target(0, (30, 60), boxes=torch.tensor([[0.0, 0, 60, 30], [30, 15, 45, 30]]))
    batch = rule([white], [target])
    top = 0 if place == "corner" else 16
    assert batch.images.shape == (1, 3, 64, 64)
    assert batch.image_sizes == [(32, 64)]
    expected = torch.full((3, 64, 64), 114.0)
    expected[:, top : top + 32] = torch.tensor([255.0, 255, 51])[:, None, None]
    torch.testing.assert_close(batch.images[0], expected, rtol=0, atol=1e-3)
    assert batch.targets is not None
    scale = 64 / 60
    wanted = torch.tensor([[0.0, top, 64, top + 32], [32, top + 16, 48, top + 30 * scale]])
    torch.testing.assert_close(batch.targets[0].boxes, wanted)
    assert batch.offsets == [(0, top)]
    # Training at several sizes: the square's side, in whole strides.
    assert rule([white], None, 100).images.shape == (1, 3, 96, 96)


def test_predictions_come_back_from_a_centred_letterbox() -> None:
    rule = Preprocess(resize="letterbox", size=(64, 64), place="center", pad_value=0.5)
    batch = rule([image((30, 60), 0)])
    prediction = Prediction((32, 64), Categories.of(["a"]), boxes=torch.tensor([[32.0, 32, 48, 48], [0, 0, 64, 64]]))
    back = _on_original_grid(prediction, batch, 0)
    torch.testing.assert_close(back.boxes, torch.tensor([[30.0, 15, 45, 30], [0, 0, 60, 30]]))


def test_none_leaves_the_image_alone() -> None:
    picture = image((33, 47), 0)
    batch = Preprocess(resize="none", mean=(0.0,) * 3, std=(1.0,) * 3, stride=16)([picture])
    assert batch.images.shape == (1, 3, 48, 48)
    torch.testing.assert_close(batch.images[0, :, :33, :47], picture / 255)


@pytest.mark.parametrize(
    "options",
    [
        {"resize": "strech"},
        {"resize": "stretch"},
        {"resize": "letterbox", "size": (0, 5)},
        {"min_size": 0},
        {"max_size": -1},
        {"mean": (0.5,)},
        {"mean": (0.5,), "std": (0.0,)},
        {"mean": (0.5,), "std": (0.5,), "channel_order": "bgr"},
    ],
)
def test_impossible_rules(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"resize|at least 1 pixel|per channel|three channels"):
        Preprocess(**options)
