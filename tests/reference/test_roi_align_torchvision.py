"""RoIAlign against torchvision's operator: values and gradients, at borders, on every level, in every dtype."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align

from vision_tasks.ops.roi_align import multilevel_roi_align

STRIDES = (4, 8, 16, 32)


def random_boxes(n: int, width: float, height: float, generator: torch.Generator) -> Tensor:
    """Boxes of 1 to 1000 pixels a side, some beyond the borders of the image, a few without extent."""
    sides = 10 ** (torch.rand(n, 2, generator=generator) * 3)
    centres = (torch.rand(n, 2, generator=generator) * 1.4 - 0.2) * torch.tensor([width, height])
    boxes = torch.cat((centres - sides / 2, centres + sides / 2), dim=1)
    boxes[::17, 2:] = boxes[::17, :2]
    boxes[::5] = boxes[::5].round()
    return boxes


def pyramid(batch: int, channels: int, height: int, width: int, generator: torch.Generator) -> list[Tensor]:
    return [
        torch.randn(batch, channels, -(-height // s), -(-width // s), generator=generator).requires_grad_()
        for s in STRIDES
    ]


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * max(1.0, theirs.detach().abs().max().item()))


@pytest.mark.parametrize(("sampling_ratio", "output_size"), [(1, 7), (2, 7), (2, 14), (3, 2), (4, 1)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_equals_torchvision_on_a_pyramid(sampling_ratio: int, output_size: int, channels_last: bool) -> None:
    generator = torch.Generator().manual_seed(output_size * 10 + sampling_ratio)
    maps = pyramid(3, 5, 160, 224, generator)
    if channels_last:
        maps = [m.detach().contiguous(memory_format=torch.channels_last).requires_grad_() for m in maps]
    boxes = [random_boxes(n, 224, 160, generator) for n in (90, 0, 140)]
    image_index = torch.repeat_interleave(torch.arange(3), torch.tensor([90, 0, 140]))
    ours = multilevel_roi_align(maps, STRIDES, torch.cat(boxes), image_index, output_size, sampling_ratio)
    pool = MultiScaleRoIAlign([str(i) for i in range(4)], output_size, sampling_ratio)
    # The shapes make torchvision infer the same strides.
    theirs = pool({str(i): m for i, m in enumerate(maps)}, boxes, [(160, 224)] * 3)
    assert_close(ours, theirs)
    gradient = torch.randn(ours.shape, generator=generator)
    for mine, other in zip(
        torch.autograd.grad(ours, maps, gradient),
        torch.autograd.grad(theirs, maps, gradient),
        strict=True,
    ):
        assert_close(mine, other)


@settings(max_examples=60, deadline=None)
@given(
    corners=st.lists(st.tuples(*[st.integers(-40, 120)] * 4), min_size=1, max_size=6),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    output_size=st.integers(1, 4),
    sampling_ratio=st.integers(1, 3),
    aligned=st.booleans(),
)
def test_equals_torchvision_on_borders(
    corners: list[tuple[int, int, int, int]],
    size: tuple[int, int],
    output_size: int,
    sampling_ratio: int,
    aligned: bool,
) -> None:
    """Eighths of a cell, so that samples fall exactly on -1, 0, the last cell and the map's end; maps of one cell too.

    In float64: a third of a bin is no binary fraction, and at -1 a rounding in float32 makes a sample vanish.
    """
    height, width = size
    feature = torch.randn(2, 3, height, width, dtype=torch.float64).requires_grad_()
    boxes = torch.tensor(corners, dtype=torch.float64) / 2  # stride 4: an eighth of a cell
    image_index = torch.arange(len(boxes)) % 2  # not sorted
    ours = multilevel_roi_align([feature], [4], boxes, image_index, output_size, sampling_ratio, aligned)
    rois = torch.cat((image_index[:, None].double(), boxes), dim=1)
    theirs = roi_align(feature, rois, output_size, 0.25, sampling_ratio, aligned)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    gradient = torch.randn_like(ours)
    (mine,) = torch.autograd.grad(ours, feature, gradient)
    (other,) = torch.autograd.grad(theirs, feature, gradient)
    torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dtype", "unit"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_half_precision_is_within_rounding_of_float32(dtype: torch.dtype, unit: float) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [m.detach().to(dtype).requires_grad_() for m in pyramid(2, 32, 160, 224, generator)]
    exact = [m.detach().float().requires_grad_() for m in maps]
    boxes = random_boxes(300, 224, 160, generator)
    image_index = torch.randint(0, 2, (300,), generator=generator)
    ours = multilevel_roi_align(maps, STRIDES, boxes, image_index, 7)
    theirs = multilevel_roi_align(exact, STRIDES, boxes, image_index, 7)
    assert ours.dtype == dtype
    # Weights and result are each rounded once.
    assert (ours.float() - theirs).abs().max() < 2 * unit * theirs.abs().max()
    gradient = torch.randn(ours.shape, generator=generator).to(dtype)
    for mine, other in zip(
        torch.autograd.grad(ours, maps, gradient), torch.autograd.grad(theirs, exact, gradient.float()), strict=True
    ):
        assert mine.dtype == dtype
        assert (mine.float() - other).abs().max() <= 3 * unit * other.abs().max()
