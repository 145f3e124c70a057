"""Merging instances and a semantic map, against a direct version at full size and cases made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision_tasks.ops import masks as mask_ops
from vision_tasks.ops.panoptic import PanopticRule, merge_panoptic, panoptic_categories
from vision_tasks.structures import Categories, Masks, Panoptic

THINGS = Categories.of([{"id": 1, "name": "person"}, {"id": 3, "name": "car"}])
SURFACES = Categories.of(
    [
        {"id": 1, "name": "other", "isthing": 0},
        {"id": 2, "name": "sky", "isthing": 0},
        {"id": 3, "name": "road", "isthing": 0},
        {"id": 4, "name": "car", "isthing": 1},
        {"id": 5, "name": "grass"},
    ]
)
VOID = ("other",)


def boxes_of(n: int, height: int, width: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand((n, 2), generator=g) * torch.tensor([width, height])
    size = torch.rand((n, 2), generator=g) * torch.tensor([width, height]) * 0.6 + 1
    boxes = torch.cat([corner - size / 2, corner + size / 2], dim=1)
    return torch.stack([boxes[:, i].clamp(0, (width, height)[i % 2]) for i in range(4)], dim=1)


def blobs(n: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand((n, 1, 4, 4), generator=g)
    return torch.nn.functional.interpolate(coarse, size=(28, 28), mode="bilinear")[:, 0]


def surfaces(height: int, width: int, seed: int) -> torch.Tensor:
    coarse = np.random.default_rng(seed).integers(-1, 5, (max(1, height // 9), max(1, width // 9)))
    grown = coarse.repeat(9, axis=0).repeat(9, axis=1)
    return torch.from_numpy(np.pad(grown, ((0, 9), (0, 9)), mode="edge")[:height, :width].astype(np.int16))


def direct(bitmaps: np.ndarray, labels: list[int], scores: list[float], semantic: np.ndarray, rule: PanopticRule):
    """Segments as (name, score, frozenset of pixels), in order, all masks at full size: section 7 of the paper."""
    free = np.ones(semantic.shape, dtype=bool)
    segments = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if scores[i] < rule.score or not bitmaps[i].any():
            continue
        left = bitmaps[i] & free
        if not left.any() or left.sum() / bitmaps[i].sum() < rule.overlap:
            continue
        free &= ~bitmaps[i]
        segments.append((THINGS.names[labels[i]], scores[i], left))
    for label, name in enumerate(SURFACES.names):
        left = free & (semantic == label)
        if name in rule.void or name in THINGS.names or left.sum() < max(1, rule.stuff_area):
            continue
        segments.append((name, 1.0, left))
    return segments


def check(found: Panoptic, expected: list) -> None:
    assert [found.categories.names[label] for label in found.labels] == [name for name, _, _ in expected]
    assert found.scores is not None
    assert found.scores.tolist() == pytest.approx([score for _, score, _ in expected])
    ids = np.zeros(found.ids.shape, dtype=np.int32)
    for row, (_, _, pixels) in enumerate(expected):
        ids[pixels] = row + 1
    assert found.ids.dtype == torch.int32
    assert np.array_equal(found.ids.numpy(), ids)


@pytest.mark.parametrize("form", ["grid", "rle", "polygons"])
@pytest.mark.parametrize("seed", range(12))
def test_equals_the_direct_version(seed, form):
    r = np.random.default_rng(seed)
    height, width, n = int(r.integers(20, 90)), int(r.integers(20, 90)), int(r.integers(0, 14))
    boxes = boxes_of(n, height, width, seed)
    masks = Masks((height, width), grid=blobs(n, seed), boxes=boxes)
    if form == "rle":
        masks = Masks((height, width), shapes=[*mask_ops.to_rles(masks)])
    elif form == "polygons":
        shapes = [
            [np.array([[x, y], [X, y], [X, Y], [(x + X) / 2, (y + Y) / 2]], np.float32)]
            for x, y, X, Y in boxes.tolist()
        ]
        masks = Masks((height, width), shapes=[None if i % 5 == 4 else shape for i, shape in enumerate(shapes)])
    labels = torch.from_numpy(r.integers(0, 2, n))
    scores = torch.from_numpy(r.random(n).round(1).astype(np.float32))  # with ties
    semantic = surfaces(height, width, seed)
    for rule in (
        PanopticRule(void=VOID, stuff_area=60),
        PanopticRule(score=0, overlap=0, stuff_area=0),
        PanopticRule(score=0.3, overlap=0.9, stuff_area=200),
        PanopticRule(score=0.1, overlap=1, stuff_area=1),
    ):
        expected = direct(mask_ops.render(masks).numpy(), labels.tolist(), scores.tolist(), semantic.numpy(), rule)
        check(merge_panoptic(masks, labels, scores, THINGS, semantic, SURFACES, rule), expected)


def square(x1: int, y1: int, x2: int, y2: int) -> list[np.ndarray]:
    return [np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], dtype=np.float32)]


def test_by_hand():
    """Sky over road; a person, a car of which exactly half is free (it stays), a car all behind them, a faint one."""
    semantic = torch.ones((100, 100), dtype=torch.int16)
    semantic[50:] = 2
    semantic[:, 99] = -1
    masks = Masks(
        (100, 100),
        shapes=[square(0, 0, 20, 20), square(10, 0, 30, 20), square(5, 0, 15, 10), square(60, 60, 70, 70)],
    )
    labels, scores = torch.tensor([0, 1, 1, 1]), torch.tensor([0.9, 0.8, 0.7, 0.4999])
    found = merge_panoptic(masks, labels, scores, THINGS, semantic, SURFACES, PanopticRule(void=VOID))
    assert found.labels.tolist() == [0, 1, 2, 3]
    assert found.categories.names == ("person", "car", "sky", "road", "grass")
    assert torch.bincount(found.ids.flatten()).tolist() == [100, 400, 200, 50 * 99 - 600, 50 * 99]
    assert found.scores is not None
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 1, 1])
    # Less sky than the limit stays undecided.
    few = merge_panoptic(masks, labels, scores, THINGS, semantic, SURFACES, PanopticRule(stuff_area=4351))
    assert few.labels.tolist() == [0, 1, 4]  # "other" takes label 2 where it is not void
    assert torch.bincount(few.ids.flatten()).tolist() == [100 + 4350, 400, 200, 4950]


def test_categories_of_both():
    merged, labels = panoptic_categories(THINGS, SURFACES, VOID)
    assert merged.names == ("person", "car", "sky", "road", "grass")
    assert merged.is_thing == (True, True, False, False, False)
    assert merged.ids == (1, 3, 2, 6, 5)  # road's 3 is the car's
    assert labels == (-1, 2, 3, -1, 4)
    assert len(set(merged.colors)) == 5
    # One name, one colour: the map's. A thing that the map does not know has one that the map has not.
    known = dict(zip(SURFACES.names, SURFACES.colors, strict=True))
    assert merged.colors[1:] == tuple(known[name] for name in merged.names[1:])
    assert merged.colors[0] not in SURFACES.colors
    own = Categories.of([{"id": 1, "name": "person", "color": [1, 2, 3]}])
    assert panoptic_categories(own, SURFACES)[0].colors[0] == (1, 2, 3)
    assert panoptic_categories(THINGS, SURFACES)[0].names == ("person", "car", "other", "sky", "road", "grass")
    with pytest.raises(ValueError, match="void names void; the map's categories are other, sky"):
        panoptic_categories(THINGS, SURFACES, ("void",))


def test_no_things_no_stuff_and_a_map_of_one_category():
    nothing = Masks((5, 6), shapes=[])
    none, empty = torch.zeros(0, dtype=torch.int64), torch.full((5, 6), -1, dtype=torch.int16)
    found = merge_panoptic(nothing, none, torch.zeros(0), THINGS, empty, SURFACES)
    assert len(found) == 0
    assert int(found.ids.abs().sum()) == 0
    road = torch.zeros((1, 5, 6), dtype=torch.bool)
    road[0, 2:] = True
    one = Categories.of(["road"])
    found = merge_panoptic(nothing, none, torch.zeros(0), THINGS, road, one, PanopticRule(stuff_area=1))
    assert found.ids.tolist() == [[0] * 6] * 2 + [[1] * 6] * 3
    assert found.labels.tolist() == [2]


def test_what_cannot_be_merged_is_refused():
    nothing, none = Masks((5, 6), shapes=[]), torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"\(6, 5\)"):
        merge_panoptic(nothing, none, torch.zeros(0), THINGS, torch.zeros((6, 5), dtype=torch.int16), SURFACES)
    with pytest.raises(ValueError, match="several things of a pixel"):
        merge_panoptic(nothing, none, torch.zeros(0), THINGS, torch.zeros((5, 5, 6), dtype=torch.bool), SURFACES)
    with pytest.raises(ValueError, match="lie in"):
        PanopticRule(overlap=50)
