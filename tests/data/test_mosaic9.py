"""Mosaics of nine: where the pieces lie, and which images they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from painting import Shelf

from vision_tasks.data.dataset import Sample
from vision_tasks.data.mosaic import Mosaic, _around_first
from vision_tasks.data.sampler import Request
from vision_tasks.structures import Masks, Target

SIZE = (60, 80)
UPRIGHT = {"degrees": 0.0, "shear": 0.0, "translate": 0.0}
sides = st.tuples(st.integers(1, 60), st.integers(1, 80))


def flat(number: int, size: tuple[int, int] = SIZE) -> Sample:
    """An image of one grey value, which is its label, and which one object fills."""
    target = Target(
        image_id=number,
        size=size,
        boxes=torch.tensor([[0.0, 0, size[1], size[0]]]),
        labels=torch.tensor([number]),
        semantic=torch.full(size, number, dtype=torch.int16),
    )
    return Sample(np.full((*size, 3), number, np.uint8), target, Request(0))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(sides, min_size=9, max_size=9))
def test_pieces_never_overlap(sizes):
    """Painted on one canvas, the nine cover as many pixels as they have together."""
    canvas = np.zeros((400, 500), np.uint8)
    for (h, w), (left, top) in zip(sizes, _around_first(sizes, SIZE, -100, -100), strict=True):
        assert left >= 0
        assert top >= 0
        canvas[top : top + h, left : left + w] += 1
    assert canvas.max() == 1
    assert canvas.sum() == sum(h * w for h, w in sizes)


def test_nine_images_of_the_mosaic_size_make_three_rows_of_three():
    """The one asked for in the middle, the others clockwise from above it, as in YOLOv5."""
    places = _around_first([SIZE] * 9, SIZE, 0, 0)
    grid = {(left // 80, top // 60): i for i, (left, top) in enumerate(places)}
    assert [[grid[x, y] for x in range(3)] for y in range(3)] == [[8, 1, 2], [7, 0, 3], [6, 5, 4]]


def test_boxes_lie_on_their_images_and_no_pixel_is_grey():
    mosaic = Mosaic(1.0, SIZE, scale=(1.0, 1.0), tiles=9, **UPRIGHT)
    first_seen = 0
    for seed in range(20):
        result = mosaic(flat(1), np.random.default_rng(seed), Shelf([flat(i) for i in range(2, 10)]))
        values = set(np.unique(result.image).tolist())
        assert 114 not in values
        first_seen += 1 in values
        for label, box in zip(result.target.labels.tolist(), result.target.boxes.numpy(), strict=True):
            seen = np.argwhere(result.image[..., 0] == label)
            np.testing.assert_allclose(box, [*seen.min(0)[::-1], *(seen.max(0)[::-1] + 1)], atol=1e-4)
            assert (box[2] - box[0]) * (box[3] - box[1]) >= 0.2 * 60 * 80
        assert (result.target.semantic.numpy() == result.image[..., 0]).all()
    assert first_seen == 20


@pytest.mark.parametrize("masks", [True, False])
def test_images_outside_leave_no_object_and_no_map(masks):
    """Small pieces lie far out; whatever is not seen has no box, and what nobody annotated stays unknown."""
    small = [flat(i, (60, 4)) for i in range(2, 10)]
    for sample in small:
        sample.target.masks = Masks((60, 4), shapes=[None]) if masks else None
    middle = flat(1)
    middle.target.masks = Masks(SIZE, shapes=[None]) if masks else None
    for seed in range(10):
        result = Mosaic(1.0, SIZE, scale=(1.0, 1.0), tiles=9, **UPRIGHT)(
            middle, np.random.default_rng(seed), Shelf(small)
        )
        assert set(result.target.labels.tolist()) <= set(np.unique(result.image).tolist())
        assert result.target.semantic.shape == SIZE
        assert (result.target.masks is not None) == masks
    unknown = Sample(np.zeros((60, 4, 3), np.uint8), Target(3, (60, 4)), Request(0))
    assert Mosaic(1.0, SIZE, tiles=9)(flat(1), np.random.default_rng(0), Shelf([unknown])).target.boxes is None
