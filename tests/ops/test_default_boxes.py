"""SSD's default boxes against torchvision's DefaultBoxGenerator, the authors' numbers, and by hand."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from vision_tasks.models.ssd import _RATIOS, _SCALES, _STRIDES
from vision_tasks.ops.anchors import default_boxes, default_shapes

MAPS = {300: [38, 19, 10, 5, 3, 1], 512: [64, 32, 16, 8, 4, 2, 1]}


@pytest.mark.parametrize("size", [300, 512])
@pytest.mark.parametrize("even", [False, True])
def test_equal_torchvisions(size: int, even: bool) -> None:
    strides = None if even else _STRIDES[size]
    theirs = DefaultBoxGenerator([list(r) for r in _RATIOS[size]], scales=list(_SCALES[size]), steps=strides)
    maps = [torch.zeros(1, 1, side, side) for side in MAPS[size]]
    expected = theirs(ImageList(torch.zeros(1, 3, size, size), [(size, size)]), maps)[0]
    shapes = default_shapes(_SCALES[size], _RATIOS[size])
    found = torch.cat(default_boxes(shapes, [(side, side) for side in MAPS[size]], (size, size), strides))
    assert torch.equal(found, expected)
    # Liu et al. 2016: 8732 boxes at 300 pixels (section 3.1), 24564 at 512 (table 7).
    assert len(found) == {300: 8732, 512: 24564}[size]


def test_an_image_that_is_not_square() -> None:
    theirs = DefaultBoxGenerator([[2], [2, 3]], scales=[0.1, 0.5, 0.9])
    expected = theirs(
        ImageList(torch.zeros(1, 3, 40, 96), [(40, 96)]), [torch.zeros(1, 1, 5, 12), torch.zeros(1, 1, 3, 6)]
    )
    found = default_boxes(default_shapes((0.1, 0.5, 0.9), ((2,), (2, 3))), [(5, 12), (3, 6)], (40, 96))
    assert torch.equal(torch.cat(found), expected[0])


def test_smallest_and_largest_sides_are_the_authors() -> None:
    """min_sizes of SSD300 and SSD512 on COCO in pixels, as the authors' Caffe scripts compute them."""
    sides = {300: [21, 45, 99, 153, 207, 261], 512: [20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8]}
    for size, expected in sides.items():
        found = [shape[0, 0].item() * size for shape in default_shapes(_SCALES[size], _RATIOS[size])]
        assert found == pytest.approx(expected, rel=1e-6)


def test_by_hand() -> None:
    shapes = default_shapes((0.2, 0.8), ((4,),))
    # The square, the square of sqrt(0.2 * 0.8) = 0.4, twice as wide, twice as high.
    torch.testing.assert_close(shapes[0], torch.tensor([[0.2, 0.2], [0.4, 0.4], [0.4, 0.1], [0.1, 0.4]]))
    boxes = default_boxes(shapes, [(1, 2)], (100, 200))[0]
    # Cells 100 pixels apart: centres (50, 50) and (150, 50).
    expected = torch.tensor([[30.0, 40, 70, 60], [10, 30, 90, 70], [10, 45, 90, 55], [40, 30, 60, 70]])
    torch.testing.assert_close(boxes[:4], expected)
    torch.testing.assert_close(boxes[4:] - boxes[:4], torch.tensor([100.0, 0, 100, 0]).expand(4, 4))
    apart = default_boxes(shapes, [(1, 2)], (100, 200), strides=[60])[0]
    assert apart[::4, 0].tolist() == pytest.approx([30 - 20, 90 - 20])


def test_as_many_scales_as_maps_and_one_more() -> None:
    with pytest.raises(ValueError, match="2 maps need 3 scales, not 2"):
        default_shapes((0.1, 0.2), ((2,), (2,)))
