"""Box geometry against torchvision, numerical gradients, and numbers made by hand."""

from __future__ import annotations

import pytest
import torch
import torchvision.ops as tv
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vision_tasks.ops import boxes as ops

PAIRED = {
    "iou": (ops.iou, None),
    "generalized_iou": (ops.generalized_iou, tv.generalized_box_iou_loss),
    "distance_iou": (ops.distance_iou, tv.distance_box_iou_loss),
    "complete_iou": (ops.complete_iou, tv.complete_box_iou_loss),
}


def random_boxes(n: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator, dtype=torch.float64) * 60
    side = 2 + torch.rand(n, 2, generator=generator, dtype=torch.float64) * 40
    return torch.cat((corner, corner + side), 1).to(dtype)


number = st.floats(-1000, 1000, width=32)
any_box = st.tuples(number, number, st.floats(0, 500, width=32), st.floats(0, 500, width=32))


@given(st.lists(any_box, min_size=1, max_size=20))
def test_conversions_go_there_and_back(rows: list[tuple[float, ...]]) -> None:
    xywh = torch.tensor(rows, dtype=torch.float64)
    corners = ops.xywh_to_xyxy(xywh)
    torch.testing.assert_close(ops.xyxy_to_xywh(corners), xywh)
    torch.testing.assert_close(ops.cxcywh_to_xyxy(ops.xyxy_to_cxcywh(corners)), corners)
    for ours, theirs in ((ops.xyxy_to_xywh, "xywh"), (ops.xyxy_to_cxcywh, "cxcywh")):
        torch.testing.assert_close(ours(corners), tv.box_convert(corners, "xyxy", theirs))


def test_conversions_by_hand() -> None:
    assert ops.xywh_to_xyxy(torch.tensor([1.0, 2, 3, 4])).tolist() == [1, 2, 4, 6]
    assert ops.cxcywh_to_xyxy(torch.tensor([[5.0, 6, 4, 2]])).tolist() == [[3, 5, 7, 7]]
    assert ops.xyxy_to_cxcywh(torch.zeros(2, 0, 4)).shape == (2, 0, 4)


def test_area_equals_torchvision_and_inverted_boxes_have_none() -> None:
    boxes = random_boxes(50, 0)
    torch.testing.assert_close(ops.area(boxes), tv.box_area(boxes))
    assert ops.area(torch.tensor([[5.0, 5, 2, 2], [5, 5, 2, 9]])).tolist() == [0, 0]


def test_clip_equals_torchvision() -> None:
    boxes = random_boxes(50, 1) * 4 - 60
    torch.testing.assert_close(ops.clip(boxes, (70, 90)), tv.clip_boxes_to_image(boxes, (70, 90)))


def test_pairwise_iou_equals_torchvision() -> None:
    one, two = random_boxes(40, 2, torch.float64), random_boxes(30, 3, torch.float64)
    torch.testing.assert_close(ops.pairwise_iou(one, two), tv.box_iou(one, two))
    torch.testing.assert_close(ops.pairwise_iou(one, one).diagonal(), torch.ones(40, dtype=torch.float64))


def test_pairwise_iou_of_integer_boxes() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [5, 0, 15, 10]])
    torch.testing.assert_close(ops.pairwise_iou(boxes, boxes)[0], torch.tensor([1.0, 1 / 3]))


@pytest.mark.parametrize("name", ["iou", "generalized_iou", "distance_iou", "complete_iou"])
def test_paired_overlaps_equal_torchvisions_tables(name: str) -> None:
    table = {
        "iou": tv.box_iou, "generalized_iou": tv.generalized_box_iou,
        "distance_iou": tv.distance_box_iou, "complete_iou": tv.complete_box_iou,
    }[name]  # fmt: skip
    one, two = random_boxes(60, 4, torch.float64), random_boxes(60, 5, torch.float64)
    torch.testing.assert_close(PAIRED[name][0](one, two), table(one, two).diagonal(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["generalized_iou", "distance_iou", "complete_iou"])
def test_gradients_equal_those_of_torchvisions_losses(name: str) -> None:
    ours, theirs = PAIRED[name]
    assert theirs is not None
    target = random_boxes(60, 7, torch.float64)
    gradients = []
    for loss in (lambda b: (1 - ours(b, target)).sum(), lambda b: theirs(b, target, reduction="sum")):
        boxes = random_boxes(60, 6, torch.float64).requires_grad_()
        value = loss(boxes)
        value.backward()
        gradients.append((value.detach(), boxes.grad))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["iou", "generalized_iou", "distance_iou"])
def test_gradients_are_the_numerical_ones(name: str) -> None:
    # CIoU holds its trade-off factor constant, so its gradient differs from the numerical one by intent.
    one = random_boxes(12, 8, torch.float64).requires_grad_()
    two = random_boxes(12, 9, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(PAIRED[name][0], (one, two))


def test_complete_iou_gradient_with_the_factor_held_constant() -> None:
    one, two = random_boxes(12, 8, torch.float64), random_boxes(12, 9, torch.float64)

    def shape(boxes: Tensor) -> Tensor:
        ratio = [torch.atan((b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1])) for b in (boxes, two)]
        return 4 / torch.pi**2 * (ratio[0] - ratio[1]) ** 2

    fixed = shape(one) / (1 - ops.iou(one, two) + shape(one) + 1e-7)
    analytic, written = one.clone().requires_grad_(), one.clone().requires_grad_()
    ops.complete_iou(analytic, two).sum().backward()
    (ops.distance_iou(written, two) - fixed * shape(written)).sum().backward()
    torch.testing.assert_close(analytic.grad, written.grad)


@pytest.mark.parametrize("name", PAIRED)
def test_zero_boxes_and_boxes_without_area(name: str) -> None:
    function = PAIRED[name][0]
    assert function(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)
    flat = torch.tensor([[3.0, 3, 3, 3], [3, 3, 3, 3], [3, 3, 3, 8], [0, 0, 0, 0]], requires_grad=True)
    other = torch.tensor([[3.0, 3, 3, 3], [0, 0, 9, 9], [3, 3, 3, 8], [0, 0, 0, 0]])
    value = function(flat, other)
    value.sum().backward()
    assert value.isfinite().all()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_zero_boxes_in_tables(n: int, m: int) -> None:
    assert ops.pairwise_iou(random_boxes(n, 0), random_boxes(m, 1)).shape == (n, m)
    assert ops.area(torch.zeros(0, 4)).shape == (0,)
    assert ops.clip(torch.zeros(0, 4), (5, 5)).shape == (0, 4)


def test_boxes_without_area_overlap_by_zero() -> None:
    assert ops.pairwise_iou(torch.zeros(2, 4), torch.zeros(1, 4)).tolist() == [[0], [0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype: torch.dtype) -> None:
    boxes = torch.tensor([[0, 0, 300, 300], [0, 0, 2048, 2048], [150, 0, 450, 300]], dtype=dtype)
    exact = boxes.double()
    assert ops.area(boxes[:2]).tolist() == [300.0**2, 2048.0**2]
    torch.testing.assert_close(ops.pairwise_iou(boxes, boxes).double(), tv.box_iou(exact, exact), rtol=1e-6, atol=1e-7)
    for ours, _ in PAIRED.values():
        found = ours(boxes, boxes[[2, 0, 0]])
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), ours(exact, exact[[2, 0, 0]]), rtol=1e-5, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(any_box, min_size=2, max_size=12))
def test_overlaps_keep_their_ranges_and_order(rows: list[tuple[float, ...]]) -> None:
    boxes = ops.xywh_to_xyxy(torch.tensor(rows, dtype=torch.float64))
    other = boxes.roll(1, 0)
    plain, general, distance, complete = (f(boxes, other) for f, _ in PAIRED.values())
    for value in (plain, general, distance, complete):
        assert value.isfinite().all()
    assert ((plain >= 0) & (plain <= 1 + 1e-9)).all()
    assert ((general >= -1 - 1e-9) & (general <= plain + 1e-6)).all()
    assert (distance <= plain + 1e-9).all()
    assert (complete <= distance + 1e-9).all()
    torch.testing.assert_close(plain, ops.iou(other, boxes))
