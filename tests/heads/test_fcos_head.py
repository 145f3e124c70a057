"""Which cells FCOS trains, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vision_tasks.heads.fcos import _centerness, _farthest, _match
from vision_tasks.ops.anchors import cell_anchors, grid_anchors
from vision_tasks.ops.matching import BACKGROUND

STRIDES = (8, 16, 32)
SIZES = [(8, 8), (4, 4), (2, 2)]
REFERENCES = torch.cat(grid_anchors([cell_anchors((s,), (1.0,)) for s in STRIDES], SIZES, (64, 64)))
LENGTHS = [h * w for h, w in SIZES]


def cells(boxes: list[list[float]], real: list[bool] | None = None) -> dict[tuple[int, int, int], int]:
    """(stride, x, y) of the positive cells -> the truth they answer for."""
    truth = torch.tensor(boxes)
    mask = torch.tensor([True] * len(boxes) if real is None else real)
    matches = _match(REFERENCES, _farthest(REFERENCES, LENGTHS), truth, mask)
    found = {}
    for reference, match in zip(REFERENCES, matches.tolist(), strict=True):
        if match != BACKGROUND:
            found[int(reference[2] - reference[0]), int(reference[::2].mean()), int(reference[1::2].mean())] = match
    return found


def test_cells_near_the_centre_of_an_object_of_their_level() -> None:
    # Centre (20, 20): within 12 pixels on both axes, exclusively, lie 16 and 24, on stride 8 alone, because no side is
    # 64 pixels away.
    assert cells([[0, 0, 40, 40]]) == {(8, x, y): 0 for x in (16, 24) for y in (16, 24)}
    assert cells([[0, 0, 38, 38]]) == {(8, x, y): 0 for x in (8, 16, 24) for y in (8, 16, 24)}


def test_a_large_object_is_left_to_the_coarser_level() -> None:
    # Sides 64 to 128 pixels away: stride 16, cells nearer than 24 pixels to (50, 50).
    found = cells([[-40, -40, 140, 140]])
    assert set(found) == {(16, x, y) for x in (32, 48) for y in (32, 48)}


def test_the_coarsest_level_takes_all_that_is_larger() -> None:
    assert {stride for stride, _, _ in cells([[-4000, -4000, 4064, 4064]])} == {32}


def test_of_two_the_smaller_one_wins() -> None:
    small, large = [10.0, 10, 30, 30], [0.0, 0, 40, 40]
    assert set(cells([large, small]).values()) == {1}
    assert set(cells([small, large]).values()) == {0}
    # Also where areas differ by less than float32 can tell from 1e8.
    assert set(cells([[0, 0, 40, 40], [0, 0, 40, 39.95]]).values()) == {1}


def test_what_is_not_to_be_learned_takes_no_cell() -> None:
    assert set(cells([[0, 0, 40, 40], [10, 10, 30, 30]], [True, False]).values()) == {0}
    assert cells([[0, 0, 40, 40]], [False]) == {}


def test_a_cell_on_the_edge_is_outside() -> None:
    # The only cells near are x = 16 and 24, both on the box's sides.
    assert cells([[16, 16, 24, 24]]) == {}


@pytest.mark.parametrize(
    ("sides", "value"), [([5.0, 5, 5, 5], 1), ([1.0, 2, 4, 2], 0.5), ([1.0, 1, 4, 4], 0.25), ([0.0, 1, 4, 1], 0)]
)
def test_centerness(sides: list[float], value: float) -> None:
    """Tian et al. 2020, eq. 3; left, top, right, bottom."""
    found: Tensor = _centerness(torch.tensor(sides))
    assert found.item() == pytest.approx(value)
