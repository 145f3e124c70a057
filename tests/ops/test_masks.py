"""Masks against pycocotools, torchvision and numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from torchvision.models.detection.roi_heads import paste_masks_in_image

from vision_tasks.errors import VisionTasksError
from vision_tasks.ops import masks as ops
from vision_tasks.ops import run_lengths
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


@settings(max_examples=80, deadline=None)
@given(
    polygons=st.lists(polygon, min_size=1, max_size=3),
    xs=st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted),
    ys=st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted),
)
def test_a_window_is_cut_from_the_full_rendering(polygons, xs, ys):
    written = [[float(str(v)) for v in p.ravel()] for p in polygons]
    full = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(written, 30, 40)))
    masks = Masks((30, 40), shapes=[polygons, ops.from_polygons(polygons, (30, 40))])
    part = ops.render(masks, (xs[0], ys[0], xs[1], ys[1])).numpy()
    assert np.array_equal(part[0], full[ys[0] : ys[1], xs[0] : xs[1]])
    assert np.array_equal(part[1], part[0])


@settings(max_examples=80, deadline=None)
@given(
    points=st.lists(st.tuples(*[st.integers(-150, 550)] * 2), min_size=3, max_size=8),
    xs=st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted),
    ys=st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted),
)
def test_tenths_of_pixels_are_rasterised_as_the_file_says_them(points, xs, ys):
    """In float32, 0.7 is a little less; COCO rounds 0.7 up and the other down."""
    written = [coordinate / 10 for point in points for coordinate in point]
    full = coco_mask.merge(coco_mask.frPyObjects([written], 30, 40))
    outline = np.array(written, dtype=np.float32).reshape(-1, 2)
    assert ops.from_polygons([outline], (30, 40)) == full
    part = ops.render(Masks((30, 40), shapes=[[outline]]), (xs[0], ys[0], xs[1], ys[1]))[0].numpy()
    assert np.array_equal(part, coco_mask.decode(full)[ys[0] : ys[1], xs[0] : xs[1]])


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


def test_paste_equals_torchvision():
    grid, boxes = boxes_and_grids(60, seed=1)
    expected = paste_masks_in_image(grid[:, None], boxes, (61, 83))[:, 0]
    assert torch.equal(ops.paste_grid(grid, boxes, (61, 83), threshold=None), expected)
    masks = Masks((61, 83), grid=grid, boxes=boxes)
    rendered = ops.render(masks)
    assert torch.equal(rendered, expected > 0.5)
    assert torch.equal(ops.render(masks, (5, 7, 50, 44)), rendered[:, 7:44, 5:50])


def torchvisions_rles(masks: Masks) -> list[dict]:
    """Full canvases, encoded by pycocotools."""
    pasted = paste_masks_in_image(masks.grid[:, None], masks.boxes, masks.size)[:, 0] > 0.5
    return coco_mask.encode(np.asfortranarray(pasted.numpy().astype(np.uint8).transpose(1, 2, 0)))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [(61, 83), (1, 40), (40, 1), (300, 17)])
def test_rles_of_grids_equal_those_of_full_canvases(size, seed):
    grid, boxes = boxes_and_grids(40, seed)
    boxes = boxes * torch.tensor([size[1] / 83, size[0] / 61] * 2)
    grid[::3] = grid[::3] ** 0.2  # nearly full, so that runs go on from column to column
    grid[1::3] = torch.nn.functional.avg_pool2d(grid[1::3], 9, 1, 4, count_include_pad=False)
    boxes[:3] = torch.tensor([[0.0, 0, size[1], size[0]], [-2, -30, size[1] + 2, size[0] + 30], [0, 0, 1, size[0]]])
    grid[0] = 1
    masks = Masks(size, grid=grid, boxes=boxes)
    assert ops.to_rles(masks) == torchvisions_rles(masks)


def test_rles_of_masks_without_a_pixel():
    """Nothing above the threshold, a box outside, a box that is not a number."""
    nan = float("nan")
    boxes = torch.tensor([[2.0, 2, 9, 9], [-30, -30, -20, -20], [nan, 1, nan, 2]])
    masks = Masks((12, 20), grid=torch.tensor([0.3, 1, 1])[:, None, None].expand(3, 28, 28), boxes=boxes)
    assert ops.to_rles(masks) == [ops.empty((12, 20))] * 3
    assert ops.to_rles(masks[[]]) == []


def test_a_box_much_larger_than_its_image_is_refused():
    masks = Masks((12, 20), grid=torch.ones(1, 28, 28), boxes=torch.tensor([[0, 0, 1e9, 1e9]]))
    with pytest.raises(VisionTasksError, match="clip boxes first"):
        ops.to_rles(masks)


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


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    share=st.sampled_from([0, 0.02, 0.5, 0.98, 1]),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_runs_of_a_window_and_back(size, share, seed, data):
    """Bytes as pycocotools writes them for the whole image; cut out again, the window comes back."""
    (y1, y2), (x1, x2) = (
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in size
    )
    image = np.zeros(size, dtype=bool)
    image[y1:y2, x1:x2] = np.random.default_rng(seed).random((y2 - y1, x2 - x1)) < share
    runs = run_lengths.of_window(image[y1:y2, x1:x2], (x1, y1), size)
    expected = coco_mask.encode(np.asfortranarray(image.astype(np.uint8)))
    assert run_lengths.compress([runs]) == [expected["counts"]]
    assert np.array_equal(run_lengths.decompress(expected["counts"]), runs)
    assert np.array_equal(run_lengths.cut(runs, size, (x1, y1, x2, y2)), image[y1:y2, x1:x2])
    assert np.array_equal(run_lengths.cut(runs, size, (0, 0, size[1], size[0])), image)


@given(st.lists(st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=9), max_size=4))
@settings(max_examples=100, deadline=None)
def test_compressed_runs_are_pycocotools(runs):
    """Of any lengths that pycocotools can write: its buffer is short where all need six letters."""
    expected = [coco_mask.frPyObjects({"size": [1, 1], "counts": r}, 1, 1)["counts"] for r in runs]
    assert run_lengths.compress([np.array(r) for r in runs]) == expected
    for r, counts in zip(runs, expected, strict=True):
        assert run_lengths.decompress(counts).tolist() == r
