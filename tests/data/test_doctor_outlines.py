"""Areas, extents and crossings of outlines, against pycocotools, and against a test of every pair of edges."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from doctor_sets import ellipse, shoelace
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from vision_tasks.data.doctor.crossings import _ENOUGH, crossing_share
from vision_tasks.data.doctor.outlines import measure_outlines
from vision_tasks.data.formats.building import RecordsBuilder
from vision_tasks.data.formats.shapes import encode_rle, from_polygons
from vision_tasks.data.records import Records
from vision_tasks.structures import Categories, Rle

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # in pycocotools, with numpy 2
Point = tuple[int, int]


def records_of(shapes: list[bytes], height: int = 64, width: int = 48) -> Records:
    from pathlib import Path

    builder = RecordsBuilder(Path("a.json"), Path("."), Categories.of(["thing"]))
    builder.add_image("a.jpg", height, width)
    for shape in shapes:
        builder.add_object(0, (1.0, 1.0, 5.0, 5.0), shape=shape)
    return builder.finish()


def rle(bitmap: np.ndarray) -> Rle:
    out: Rle = coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    return out


bitmaps = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).random((64, 48)) < np.random.default_rng(seed).choice([0.0, 0.001, 0.3, 1])
)


@settings(max_examples=30, deadline=None)
@given(st.lists(bitmaps, min_size=1, max_size=8))
def test_run_lengths_equal_pycocotools(masks: list[np.ndarray]) -> None:
    """Several at once, with masks of no pixel, and one whose run goes on from a column's end into the next."""
    over = np.zeros((64, 48), bool)
    over[60:, 3] = over[:3, 4] = True
    masks = [*masks, over]
    entries = [rle(m) for m in masks]
    measured = measure_outlines(records_of([encode_rle(e) for e in entries]))
    np.testing.assert_array_equal(measured.area, coco_mask.area(entries))
    boxes = coco_mask.toBbox(entries)
    some = measured.area > 0
    np.testing.assert_array_equal(measured.extent[some, :2], boxes[some, :2])
    np.testing.assert_array_equal(measured.extent[some, 2:] - measured.extent[some, :2], boxes[some, 2:])
    assert np.isnan(measured.extent[~some]).all()


def test_polygons_and_run_lengths_among_each_other() -> None:
    square, triangle = [2.0, 2, 12, 2, 12, 12, 2, 12], [20.0, 20, 26, 20, 20, 28]
    shapes = [
        from_polygons([square])[0], b"", encode_rle(rle(np.ones((64, 48)))), from_polygons([triangle, square])[0],
        from_polygons([ellipse(3, 4, 20, 30)])[0],
    ]  # fmt: skip
    measured = measure_outlines(records_of(shapes))
    assert measured.has.tolist() == [True, False, True, True, True]
    assert measured.runs.tolist() == [False, False, True, False, False]
    assert measured.area.tolist() == [100, pytest.approx(np.nan, nan_ok=True), 64 * 48, 124,
                                      pytest.approx(shoelace(ellipse(3, 4, 20, 30)), rel=1e-5)]  # fmt: skip
    assert measured.largest[3] == 100
    assert measured.extent[3].tolist() == [2, 2, 26, 28]
    assert measured.length[:1].tolist() == [40]
    assert measured.length[3] == 40 + 6 + 8 + 10
    assert not measured.crossing.any()


def test_many_outlines_are_the_same_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    shapes = [from_polygons([rng.uniform(0, 50, 2 * k).tolist() for k in rng.integers(3, 12, n)])[0]
              for n in rng.integers(1, 4, 60)]  # fmt: skip
    alone = [measure_outlines(records_of([s])) for s in shapes]
    monkeypatch.setattr("vision_tasks.data.doctor.outlines._POINTS", 50)
    together = measure_outlines(records_of(shapes))
    for name in ("area", "largest", "extent", "length"):
        np.testing.assert_allclose(getattr(together, name), np.concatenate([getattr(a, name) for a in alone]))
    # Of loops that are large enough, it may be one or the other that is told.
    crossing = np.concatenate([a.crossing for a in alone])
    np.testing.assert_allclose(np.minimum(together.crossing, _ENOUGH), np.minimum(crossing, _ENOUGH))


def crosses(polygon: list[Point]) -> bool:
    """Whether two edges have each the other's ends strictly on both sides; in whole numbers, so without rounding."""

    def side(a: Point, b: Point, p: Point) -> int:
        return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])

    edges = list(zip(polygon, polygon[1:] + polygon[:1], strict=True))
    both = {frozenset((a, b)): sum({a, b} == {c, d} for c, d in edges) for a, b in edges}
    lines = [e for e in edges if both[frozenset(e)] == 1]
    return any(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for (a, b), (c, d) in itertools.combinations(lines, 2)
    )


points = st.tuples(st.integers(0, 9), st.integers(0, 9))


@settings(max_examples=120, deadline=None)
@given(st.lists(st.lists(points, min_size=3, max_size=9), min_size=1, max_size=6))
def test_crossings_are_those_of_every_pair_of_edges(polygons: list[list[Point]]) -> None:
    """Touching, repeated points and lines there and back included: on so small a grid they are frequent."""
    x, y = (np.array([p[k] for polygon in polygons for p in polygon], float) for k in (0, 1))
    share = crossing_share(x, y, np.array([len(p) for p in polygons]))
    for one, polygon in zip(share, polygons, strict=True):
        if one > 0:
            assert crosses(polygon)
        else:  # a crossing whose loop has no area is none
            assert not crosses(polygon) or _loops_are_flat(polygon)


def _loops_are_flat(polygon: list[Point]) -> bool:
    """Whether every crossing cuts off a loop of no area, computed in fractions."""
    n = len(polygon)
    for i, j in itertools.combinations(range(n), 2):
        a, b, c, d = polygon[i], polygon[(i + 1) % n], polygon[j], polygon[(j + 1) % n]
        det = (b[0] - a[0]) * (d[1] - c[1]) - (b[1] - a[1]) * (d[0] - c[0])
        if not det or not crosses([a, b, c, d]):
            continue
        t = Fraction((c[0] - a[0]) * (d[1] - c[1]) - (c[1] - a[1]) * (d[0] - c[0]), det)
        at = (a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1]))
        loops = [[at, *polygon[i + 1 : j + 1]], [at, *polygon[j + 1 :], *polygon[: i + 1]]]
        if all(sum(p[0] * q[1] - q[0] * p[1] for p, q in zip(o, o[1:] + o[:1], strict=True)) for o in loops):
            return False
    return True


def test_share_of_a_bow_tie_by_hand() -> None:
    """Two triangles that meet in (4, 2): 4 wide and 4 high, and 2 wide and 2 high; areas 8 and 2."""
    x, y = np.array([0.0, 0, 6, 6]), np.array([0.0, 4, 1, 3])
    assert crossing_share(x, y, np.array([4])).tolist() == [pytest.approx(2 / 10)]
    assert crossing_share(x, y[[0, 1, 3, 2]], np.array([4])).tolist() == [0]


def test_parts_joined_by_a_line_there_and_back_do_not_cross() -> None:
    """Two squares hang together by a line that runs through a third part of the outline."""
    outline = [(0, 0), (2, 0), (2, 1), (8, 1), (8, 0), (10, 0), (10, 2), (8, 2), (8, 1), (2, 1), (2, 2), (0, 2)]
    x, y = np.array(outline, float).T
    assert crossing_share(x, y, np.array([len(outline)])).tolist() == [0]


def test_scribbles_of_thousands_of_points_end_soon() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 100, (2, 4000))
    assert crossing_share(x, y, np.array([4000]))[0] > 0
