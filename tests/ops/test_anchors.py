"""Anchors against torchvision's AnchorGenerator."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from vision_tasks.ops.anchors import cell_anchors, grid_anchors

SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)
RATIOS = (0.5, 1.0, 2.0)


def pyramid(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes of P2..P6: each level halves, rounding up."""
    sizes = [(-(-height // 4), -(-width // 4))]
    while len(sizes) < 5:
        h, w = sizes[-1]
        sizes.append((-(-h // 2), -(-w // 2)))
    return sizes


@pytest.mark.parametrize("size", [(800, 1088), (64, 96), (256, 320), (32, 32), (1344, 800)])
def test_equal_torchvisions(size: tuple[int, int]) -> None:
    theirs = AnchorGenerator(tuple((s,) for s in SIZES), (RATIOS,) * 5)
    maps = [torch.zeros(1, 1, *s) for s in pyramid(*size)]
    expected = theirs(ImageList(torch.zeros(1, 3, *size), [size]), maps)[0]
    found = grid_anchors([cell_anchors((s,), RATIOS) for s in SIZES], pyramid(*size), size)
    assert torch.equal(torch.cat(found), expected)


def test_the_coarsest_stride_is_61_pixels_on_an_image_of_800_by_1088() -> None:
    p6 = grid_anchors([cell_anchors((512,), (1.0,))], [(13, 17)], (800, 1088))[0].reshape(13, 17, 4)
    assert (p6[1, 0] - p6[0, 0]).tolist() == [0, 61, 0, 61]
    assert (p6[0, 1] - p6[0, 0]).tolist() == [64, 0, 64, 0]


@pytest.mark.parametrize(("sizes", "ratios"), [((32,), RATIOS), ((16, 40, 100), (0.33, 1.0)), ((7,), (1.0,))])
def test_cells_equal_torchvisions(sizes: tuple[float, ...], ratios: tuple[float, ...]) -> None:
    expected = AnchorGenerator((sizes,), (ratios,)).generate_anchors(list(sizes), list(ratios))
    assert torch.equal(cell_anchors(sizes, ratios), expected)


def test_cells_by_hand() -> None:
    # 32² pixels at height / width of 1/2: 45.25 wide and 22.63 high, halved and rounded.
    assert cell_anchors((32,), (0.5, 1.0)).tolist() == [[-23, -11, 23, 11], [-16, -16, 16, 16]]


def test_levels_of_unequal_number() -> None:
    with pytest.raises(ValueError, match="zip"):
        grid_anchors([cell_anchors((8,), (1.0,))], [(2, 2), (1, 1)], (16, 16))
