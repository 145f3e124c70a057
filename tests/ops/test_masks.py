"""Masks against pycocotools, torchvision and numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from torchvision.models.detection.roi_heads import paste_masks_in_image

from vision_tasks.ops import masks as ops
from vision_tasks.structures import Masks

# pycocotools 2.0.11 with numpy 2 warns about itself.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SQUARE = np.array([[2, 3], [6, 3], [6, 8], [2, 8]], dtype=np.float32)


def random_bitmaps(n: int, h: int, w: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((n, h, w), generator=torch.Generator().manual_seed(seed)) > 0.6


def test_encode_equals_pycocotools_and_decodes_back():
    bitmaps = random_bitmaps(4, 13, 9)
    expected = coco_mask.encode(np.asfortranarray(bitmaps.numpy().astype(np.uint8).transpose(1, 2, 0)))
    assert ops.encode(bitmaps) == expected
    assert torch.equal(ops.decode(expected), bitmaps)


@pytest.mark.parametrize("shape", [(0, 5, 7), (3, 1, 1), (2, 1, 8), (2, 8, 1)])
def test_round_trip_at_the_edges(shape):
    bitmaps = random_bitmaps(*shape)
    assert torch.equal(ops.decode(ops.encode(bitmaps), size=shape[1:]), bitmaps)


def test_polygon_area_and_boxes_by_hand():
    rle = ops.from_polygons([SQUARE], (12, 10))
    assert ops.area([rle]).tolist() == [20]
    assert ops.boxes([rle]).tolist() == [[2, 3, 6, 8]]
    bitmap = ops.decode([rle])[0]
    assert bitmap[3:8, 2:6].all()
    assert bitmap.sum() == 20


def test_nothing_gives_nothing():
    assert ops.area([]).shape == (0,)
    assert ops.boxes([]).shape == (0, 4)
    none = ops.empty((4, 6))
    assert ops.area([none]).tolist() == [0]
    assert ops.decode([none]).shape == (1, 4, 6)
    assert ops.from_polygons([SQUARE[:2]], (4, 6)) == none
    assert ops.render(Masks((4, 6), shapes=[])).shape == (0, 4, 6)
    assert ops.render(Masks((4, 6), grid=torch.zeros(0, 28, 28), boxes=torch.zeros(0, 4))).shape == (0, 4, 6)


def test_union_of_polygons_and_missing_masks():
    masks = Masks((12, 20), shapes=[[SQUARE, SQUARE + np.float32([4, 0])], None, ops.from_polygons([SQUARE], (12, 20))])
    rendered = ops.render(masks)
    assert rendered.sum(dim=(1, 2)).tolist() == [40, 0, 20]
    assert torch.equal(ops.decode(ops.to_rles(masks)), rendered)


coordinate = st.floats(-15, 55, width=32)
polygon = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=8).map(
    lambda p: np.array(p, dtype=np.float32)
)


@settings(max_examples=150, deadline=None)
@given(
    polygons=st.lists(polygon, min_size=1, max_size=3),
    xs=st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted),
    ys=st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted),
)
def test_a_window_is_cut_from_the_full_rendering(polygons, xs, ys):
    full = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([p.astype(float).ravel() for p in polygons], 30, 40)))
    masks = Masks((30, 40), shapes=[polygons, ops.from_polygons(polygons, (30, 40))])
    part = ops.render(masks, (xs[0], ys[0], xs[1], ys[1])).numpy()
    assert np.array_equal(part[0], full[ys[0] : ys[1], xs[0] : xs[1]])
    assert np.array_equal(part[1], part[0])


def test_a_window_outside_the_image_is_refused():
    with pytest.raises(ValueError, match="does not lie"):
        ops.render(Masks((30, 40), shapes=[]), (0, 0, 41, 30))


def boxes_and_grids(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand((n, 2), generator=g) * torch.tensor([80.0, 60.0]) - 10
    side = torch.rand((n, 2), generator=g) ** 2 * 60
    side[: n // 8] = 0.2  # less than a pixel
    corner = torch.maximum(corner, 1 - side)  # torchvision fails on a box wholly outside the image
    return torch.rand((n, 28, 28), generator=g), torch.cat([corner, corner + side], dim=1)


@pytest.mark.parametrize("chunk", [1, 10_000, 1 << 24])
def test_paste_equals_torchvision(chunk, monkeypatch):
    monkeypatch.setattr(ops, "_PIXELS_PER_CHUNK", chunk)
    grid, boxes = boxes_and_grids(60, seed=1)
    expected = paste_masks_in_image(grid[:, None], boxes, (61, 83))[:, 0]
    pasted = ops.paste_grid(grid, boxes, (61, 83), threshold=None)
    assert pasted.shape == expected.shape
    torch.testing.assert_close(pasted, expected, rtol=0, atol=1e-5)
    clear = (expected - 0.5).abs() > 1e-5
    rendered = ops.render(Masks((61, 83), grid=grid, boxes=boxes))
    assert torch.equal(rendered[clear], (expected > 0.5)[clear])
    assert torch.equal(ops.decode(ops.to_rles(Masks((61, 83), grid=grid, boxes=boxes))), rendered)
    assert torch.equal(ops.render(Masks((61, 83), grid=grid, boxes=boxes), (5, 7, 50, 44)), rendered[:, 7:44, 5:50])


def test_half_precision_grids_are_pasted_in_float32():
    grid, boxes = boxes_and_grids(5, seed=2)
    pasted = ops.paste_grid(grid.half(), boxes, (61, 83), threshold=None)
    torch.testing.assert_close(pasted, ops.paste_grid(grid.half().float(), boxes, (61, 83), threshold=None))


def test_areas_of_more_masks_than_a_byte_counts():
    bitmaps = random_bitmaps(300, 7, 11)
    expected = bitmaps.sum(dim=(1, 2))
    rles = ops.encode(bitmaps)
    assert torch.equal(ops.area(rles), expected)
    assert torch.equal(ops.area(rles[:256]), expected[:256])
    assert ops.boxes(rles).shape == (300, 4)
