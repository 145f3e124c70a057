"""RoIAlign: numerical gradients, hand-computed values, empty and broken input, modes and portions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vision_tasks.ops import roi_align_cpu
from vision_tasks.ops.roi_align import assign_levels, multilevel_roi_align

BOXES = torch.tensor([[0.0, 0, 16, 16], [3, 5, 40, 90], [-20, -20, 10, 10], [50, 60, 61, 63]])
IMAGES = torch.tensor([1, 0, 1, 0])


def ramp(height: int, width: int) -> Tensor:
    """Channel 0 is x and channel 1 is y, in cells."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x, y))[None].float()


def test_reads_positions_off_a_ramp() -> None:
    boxes = torch.tensor([[8.0, 16, 40, 32], [0, 0, 160, 160]])  # at stride 4: 2..10 × 4..8 cells, and 0..40
    pooled = multilevel_roi_align([ramp(40, 40)], [4], boxes, torch.zeros(2, dtype=torch.int64), 2)
    assert pooled[0, 0].tolist() == [[4, 8], [4, 8]]
    assert pooled[0, 1].tolist() == [[5, 5], [7, 7]]
    assert pooled[1, 0].tolist() == [[10, 30], [10, 30]]
    shifted = multilevel_roi_align([ramp(40, 40)], [4], boxes[:1], torch.zeros(1, dtype=torch.int64), 2, aligned=True)
    assert shifted[0, 0].tolist() == [[3.5, 7.5], [3.5, 7.5]]


def test_outside_is_zero_and_the_rim_repeats_the_border() -> None:
    one = torch.ones(1, 1, 4, 4)
    boxes = torch.tensor([[-3.0, 0, -2, 4], [-1, 0, 0, 4], [4, 0, 5, 4], [-2, 0, 0, 4]])
    pooled = multilevel_roi_align([one], [1], boxes, torch.zeros(4, dtype=torch.int64), 1, sampling_ratio=2)
    # The third's samples lie at 4.25 and 4.75, beyond the map's end (4); of the last, one of two lies beyond -1.
    assert pooled.flatten().tolist() == [0, 1, 0, 0.5]


@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
@pytest.mark.slow
def test_gradient_equals_the_numerical_one(sampling_ratio: int) -> None:
    maps = [torch.randn(2, 2, 96 // s, 64 // s, dtype=torch.float64).requires_grad_() for s in (8, 16)]

    def pool(*features: Tensor) -> Tensor:
        return multilevel_roi_align(features, (8, 16), BOXES.double(), IMAGES, 3, sampling_ratio)

    assert torch.autograd.gradcheck(pool, maps)


def test_no_boxes_give_no_rows_and_zero_gradient() -> None:
    feature = torch.randn(2, 3, 8, 8).requires_grad_()
    pooled = multilevel_roi_align([feature], [4], torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 7)
    assert pooled.shape == (0, 3, 7, 7)
    (gradient,) = torch.autograd.grad(pooled.sum(), feature)
    assert gradient.shape == feature.shape
    assert not gradient.any()


@pytest.mark.parametrize("channels_last", [False, True])
def test_without_a_gradient_the_same_comes_out(channels_last: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3, 96 // s, 64 // s, generator=generator).requires_grad_() for s in (8, 16)]
    if channels_last:
        maps = [m.detach().to(memory_format=torch.channels_last).requires_grad_() for m in maps]
    for rows in (slice(0, 0), slice(0, 4)):
        want = multilevel_roi_align(maps, (8, 16), BOXES[rows], IMAGES[rows], 7)
        with torch.no_grad():
            got = multilevel_roi_align(maps, (8, 16), BOXES[rows], IMAGES[rows], 7)
        assert want.requires_grad
        assert got.shape == want.shape
        assert torch.equal(got, want)
        assert not got.numel() or got.is_contiguous(memory_format=torch.channels_last)


def test_an_image_without_boxes_has_zero_gradient() -> None:
    feature = torch.randn(3, 2, 8, 8).requires_grad_()
    pooled = multilevel_roi_align([feature], [4], BOXES, torch.ones(4, dtype=torch.int64), 2)
    (gradient,) = torch.autograd.grad(pooled.sum(), feature)
    assert [bool(g.any()) for g in gradient] == [False, True, False]


def test_boxes_that_are_not_numbers_give_zeros() -> None:
    boxes = BOXES.clone()
    boxes[1, 2], boxes[3, 0] = float("nan"), float("inf")
    maps = [torch.randn(2, 3, 96 // s, 96 // s).requires_grad_() for s in (4, 8)]
    pooled = multilevel_roi_align(maps, (4, 8), boxes, IMAGES, 7)
    assert not pooled[[1, 3]].any()
    assert torch.equal(pooled[[0, 2]], multilevel_roi_align(maps, (4, 8), BOXES, IMAGES, 7)[[0, 2]])
    assert all(g.isfinite().all() for g in torch.autograd.grad(pooled.sum(), maps))


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = [torch.randn(2, 3, 96 // s, 96 // s).requires_grad_() for s in (4, 8)]
    whole = multilevel_roi_align(maps, (4, 8), BOXES, IMAGES, 7)
    gradients = torch.autograd.grad(whole.square().sum(), maps)
    monkeypatch.setattr(roi_align_cpu, "FORWARD_PORTION", 1)
    monkeypatch.setattr(roi_align_cpu, "BACKWARD_PORTION", 1)
    parts = multilevel_roi_align(maps, (4, 8), BOXES, IMAGES, 7)
    assert torch.equal(whole, parts)
    torch.testing.assert_close(torch.autograd.grad(parts.square().sum(), maps), gradients)


def test_more_pixels_than_short_keys_hold() -> None:
    """Above 32768 pixels in an image, keys are sorted as int32."""
    feature = torch.zeros(1, 1, 200, 200).requires_grad_()
    box = torch.tensor([[190.0, 190, 194, 194]])
    pooled = multilevel_roi_align([feature], [1], box, torch.zeros(1, dtype=torch.int64), 2)
    (gradient,) = torch.autograd.grad(pooled.sum(), feature)
    # Four bins of weight 1, each 2 × 2 cells wide; a sample at 190.5 weighs cells 190 and 191 alike.
    profile = torch.tensor([0.25, 0.5, 0.5, 0.5, 0.25])
    expected = torch.zeros(200, 200)
    expected[190:195, 190:195] = profile[:, None] * profile
    torch.testing.assert_close(gradient[0, 0], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_modes(dtype: torch.dtype) -> None:
    maps = [torch.randn(2, 3, 96 // s, 96 // s, dtype=dtype) for s in (4, 8)]
    plain = multilevel_roi_align(maps, (4, 8), BOXES, IMAGES, 7)
    with torch.inference_mode():
        assert torch.equal(multilevel_roi_align(maps, (4, 8), BOXES, IMAGES, 7), plain)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = [m.requires_grad_() for m in maps]
        mixed = multilevel_roi_align(maps, (4, 8), BOXES, IMAGES, 7)
        mixed.float().sum().backward()
    assert torch.equal(mixed, plain)
    assert all(m.grad is not None and m.grad.dtype == dtype for m in maps)


def test_boxes_get_no_gradient_and_there_is_no_second_one() -> None:
    feature = torch.randn(2, 3, 24, 24).requires_grad_()
    boxes = BOXES.clone().requires_grad_()
    pooled = multilevel_roi_align([feature], [4], boxes, IMAGES, 2)
    (gradient,) = torch.autograd.grad(pooled.square().sum(), feature, create_graph=True)
    assert torch.autograd.grad(pooled.sum(), boxes, allow_unused=True)[0] is None
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


def test_an_image_that_is_not_there_is_an_error() -> None:
    with pytest.raises(IndexError):
        multilevel_roi_align([torch.zeros(2, 1, 8, 8)], [4], BOXES, IMAGES + 1, 2)


@pytest.mark.slow
def test_export_keeps_the_operator_that_runtimes_know() -> None:
    class Pool(torch.nn.Module):
        def forward(self, fine: Tensor, coarse: Tensor, boxes: Tensor) -> Tensor:
            return multilevel_roi_align((fine, coarse), (4, 8), boxes, torch.zeros(3, dtype=torch.int64), 7)

    inputs = torch.randn(1, 2, 24, 24), torch.randn(1, 2, 12, 12), BOXES[:3]
    program = torch.export.export(Pool(), inputs)
    assert "torchvision.roi_align" in str(program.graph)
    torch.testing.assert_close(program.module()(*inputs), Pool()(*inputs), rtol=1e-5, atol=1e-5)


def test_levels_follow_the_paper() -> None:
    sides = torch.tensor([1.0, 111, 112, 223, 224, 448, 4000])
    boxes = torch.stack((torch.zeros(7), torch.zeros(7), sides, sides), dim=1)
    assert assign_levels(boxes, 2, 5).tolist() == [2, 2, 3, 3, 4, 5, 5]
