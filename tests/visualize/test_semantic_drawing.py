"""Maps and segments over images: every pixel has its region's colour, the legend says what is there, truth is compared.

What is expected is computed pixel by pixel in NumPy, in another way than the pictures are painted.
"""

import dataclasses
import re

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_tasks.categories import beside_map
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories, Panoptic, Prediction, Target
from vision_tasks.visualize.comparison import FOUND, WRONG, draw_comparison
from vision_tasks.visualize.drawing import draw
from vision_tasks.visualize.legend import GROUND, Entry, with_legend
from vision_tasks.visualize.regions import areas, paint_regions, regions_of
from vision_tasks.visualize.semantic import UNDECIDED, paint_panoptic, paint_semantic, shade, share

NAMES = Categories.of(["sky", "$road", "树", "tree"])


def tinted(image, labels, colors, opacity):
    """The middle of regions: the colour of each pixel's label over the image."""
    return np.rint(image * (1 - opacity) + np.asarray(colors, float)[labels] * opacity)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 300), st.integers(1, 3), st.sampled_from(["int16", "int64"])
)
def test_regions_are_labels(height, width, count, zoom, kind):
    labels = np.random.default_rng(height).integers(-3, count + 5, (height, width)).astype(kind)
    before = labels.copy()
    regions = regions_of(labels, 0, count, zoom)
    expected = np.clip(np.maximum(labels, -1) + 1, 0, count + 1).repeat(zoom, 0).repeat(zoom, 1)
    np.testing.assert_array_equal(regions, expected)
    np.testing.assert_array_equal(labels, before)
    np.testing.assert_array_equal(areas(regions, count + 1), np.bincount(expected.reshape(-1), minlength=count + 2))


@pytest.mark.parametrize("count", [4, 300])
def test_every_pixel_has_the_colour_of_its_region(count):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, count, (9, 13)).repeat(8, 0).repeat(8, 1)  # 72×104, blocks of eight
    labels[:8, :16] = -1
    colors = [tuple(int(v) for v in c) for c in rng.integers(0, 256, (count + 1, 3))]
    image = rng.integers(0, 256, (72, 104, 3), dtype=np.uint8)
    canvas = image.copy()
    paint_regions(canvas, regions_of(labels, 0, count), colors, 0.4, line=1)
    apart = [labels != np.roll(labels, step, axis) for step in (1, -1) for axis in (0, 1)]
    apart += [labels != np.roll(labels, (y, x), (0, 1)) for y in (1, -1) for x in (1, -1)]
    line = np.logical_or.reduce(apart)
    line[[0, -1]] = line[:, [0, -1]] = False  # np.roll goes round the frame; these are left out
    inner = ~line & (labels >= 0)
    inner[[0, -1]] = inner[:, [0, -1]] = False
    assert np.abs(canvas - tinted(image, labels, colors, 0.4))[inner].max() <= 1
    on_line = line & (labels >= 0)
    np.testing.assert_array_equal(canvas[on_line], np.asarray(colors)[labels[on_line]])
    undecided = labels == -1
    untouched = (canvas == image).all(2) & undecided
    assert 0.5 < untouched.sum() / undecided.sum() < 0.9  # hatched: the rest of them


def test_bands_do_not_show(monkeypatch):
    labels = np.random.default_rng(1).integers(-1, 4, (50, 60)).astype(np.int16)
    image = np.full((50, 60, 3), 90, np.uint8)
    whole = draw(image, Target(1, (50, 60), semantic=torch.from_numpy(labels)), NAMES)
    monkeypatch.setattr("vision_tasks.visualize.regions._BAND", 60 * 7)
    np.testing.assert_array_equal(draw(image, Target(1, (50, 60), semantic=torch.from_numpy(labels)), NAMES), whole)


def entries_of(semantic, categories=NAMES, **more):
    canvas = np.zeros((*semantic.shape[-2:], 3), np.uint8)
    return paint_semantic(canvas, semantic, categories, 0.5, 1, **more)


def test_legend_says_what_is_there():
    labels = torch.full((10, 100), 1, dtype=torch.int16)
    labels[0] = 3
    labels[1, :50] = -1
    labels[2, 0] = 2
    assert entries_of(labels) == [
        Entry(NAMES.colors[1], "$road", "84.9 %"),
        Entry(NAMES.colors[3], "tree", "10.0 %"),
        Entry(NAMES.colors[2], "树", "0.1 %"),
        Entry(UNDECIDED, "ignored", "5.0 %"),
    ]
    labels[2, 0] = 99
    assert [(e.name, e.value) for e in entries_of(labels)][2:] == [("unknown label", "0.1 %"), ("ignored", "5.0 %")]
    assert [e.name for e in entries_of(torch.full((3, 4), -1))] == ["ignored"]
    assert share(1, 10_000) == "< 0.1 %"


def test_layers_lie_over_each_other():
    layers = torch.zeros(3, 60, 80, dtype=torch.int8)
    layers[0, 10:50, 10:50] = 1
    layers[2, 20:30, 20:70] = 1
    layers[:, :, 75:] = -1
    image = np.full((60, 80, 3), 100, np.uint8)
    drawn = draw(image, Target(1, (60, 80), semantic=layers), NAMES, opacity=0.5, legend=False)
    large, small = np.asarray(NAMES.colors[0], float), np.asarray(NAMES.colors[2], float)
    assert np.abs(drawn[40, 30] - (50 + large / 2)).max() <= 1
    assert np.abs(drawn[25, 60] - (50 + small / 2)).max() <= 1
    assert np.abs(drawn[25, 40] - ((50 + large / 2) / 2 + small / 2)).max() <= 1  # the small one on top
    for y, x in ((20, 20), (29, 69), (25, 20)):
        assert tuple(drawn[y, x]) == NAMES.colors[2]
    assert tuple(drawn[10, 30]) == NAMES.colors[0]
    assert tuple(drawn[5, 60]) == (100, 100, 100)
    assert (drawn[:, 75:] != 100).any()
    assert [(e.name, e.value) for e in entries_of(layers)] == [
        ("sky", "33.3 %"),
        ("树", "10.4 %"),
        ("ignored", "6.2 %"),
    ]
    found = Prediction((60, 80), NAMES, semantic=layers == 1)
    assert [e.name for e in entries_of(found.semantic)] == ["sky", "树"]
    zoomed = draw(image, found, zoom=2, legend=False, opacity=0.5)
    assert np.abs(zoomed[50, 120] - (50 + small / 2)).max() <= 1


THINGS = Categories.of(
    [{"id": 7, "name": "person"}, {"id": 9, "name": "grass", "isthing": 0}, {"id": 12, "name": "dog"}]
)


def some_segments(**more):
    ids = torch.zeros(120, 160, dtype=torch.int32)
    ids[60:] = 1
    for row, left in enumerate((10, 60, 110)):
        ids[20:100, left : left + 40] = row + 2
    return Panoptic(ids, torch.tensor([1, 0, 0, 2]), THINGS, **more)


def test_segments_have_shades_and_tags():
    image = np.full((120, 160, 3), 128, np.uint8)
    panoptic = some_segments(scores=torch.tensor([1.0, 0.9, 0.8, 0.7]), is_crowd=torch.tensor([False] * 3 + [True]))
    plain = draw(image, panoptic, labels=False, legend=False, opacity=0.5)
    person, other = THINGS.colors[0], shade(THINGS.colors[0], 1)
    assert person != other
    for (y, x), color in {(30, 30): person, (30, 80): other, (30, 130): THINGS.colors[2]}.items():
        assert np.abs(plain[y, x] - (64 + np.asarray(color) / 2)).max() <= 1
        assert tuple(plain[y, x - 20 if x != 30 else 10]) == color  # their outlines
    tagged = draw(image, panoptic, legend=False)
    changed = [(tagged != plain)[:, x : x + 40].any() for x in (10, 60, 110)]
    assert changed == [True] * 3
    assert not (tagged != plain)[105:].any()  # stuff has no tag
    entries = paint_panoptic(image.copy(), panoptic, 0.5, 1, 0)
    assert [(e.name, e.value) for e in entries] == [
        ("person × 2", "33.3 %"), ("grass", "25.0 %"), ("dog", "16.7 %"), ("undecided", "25.0 %")
    ]  # fmt: skip


def test_shades_of_one_category_differ():
    shades = [shade((0, 114, 178), i) for i in range(12)]
    assert len(set(shades)) == 12
    assert shades[0] == (0, 114, 178)
    assert all(0 <= v <= 255 for tone in shades for v in tone)


def test_prediction_is_drawn_as_what_it_holds():
    image = np.full((120, 160, 3), 128, np.uint8)
    semantic = torch.zeros(120, 160, dtype=torch.int16)
    boxes = torch.tensor([[20.0, 20, 60, 60]])
    both = Prediction(
        (120, 160), THINGS, boxes, torch.tensor([2]), torch.tensor([0.9]), semantic=semantic, semantic_categories=NAMES
    )
    drawn = draw(image, both, labels=False, legend=False, opacity=0.5)
    # Of a colour that the map has not.
    assert tuple(drawn[20, 20]) == beside_map(THINGS, NAMES).colors[2]
    assert beside_map(THINGS, NAMES).colors[2] not in NAMES.colors
    assert np.abs(drawn[100, 100] - (64 + np.asarray(NAMES.colors[0]) / 2)).max() <= 1
    # What the map knows by the same name is of the map's colour.
    same = Categories.of(["cat", "dog"])
    assert same.colors[1] != THINGS.colors[2]
    named = dataclasses.replace(both, semantic_categories=same)
    assert tuple(draw(image, named, labels=False, legend=False)[20, 20]) == same.colors[1]
    merged = dataclasses.replace(both, panoptic=some_segments())
    np.testing.assert_array_equal(draw(image, merged), draw(image, some_segments()))
    np.testing.assert_array_equal(draw(image, merged, panoptic=False), draw(image, both))
    truth = Target(1, (120, 160), boxes, torch.tensor([2]), semantic=semantic)
    expected = draw(image, dataclasses.replace(both, scores=None), labels=False)
    np.testing.assert_array_equal(draw(image, truth, THINGS, semantic_categories=NAMES, labels=False), expected)
    for wrong in (
        Prediction((120, 160), NAMES, semantic=semantic[:, 1:]),
        Panoptic(torch.zeros(3, 4), torch.zeros(0), NAMES),
    ):
        with pytest.raises(VisionTasksError, match=r"segments|semantic map"):
            draw(image, wrong)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 9), (40, 60), (480, 640), (640, 480)])
@pytest.mark.parametrize("count", [1, 3, 150])
def test_legends_of_all_sizes(size, count):
    rng = np.random.default_rng(2)
    picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    entries = [Entry((200, 30, 30), f"category number {i}", "12.3 %") for i in range(count)]
    drawn = with_legend(picture, entries)
    np.testing.assert_array_equal(drawn[: size[0], : size[1]], picture)
    swatches, _ = cv2.connectedComponents((drawn == (200, 30, 30)).all(2).astype(np.uint8))
    shown = swatches - 1 if count == 150 else count  # noise is never of this colour
    assert swatches - 1 == shown
    assert shown >= min(count, 7)
    added = drawn.shape[0] * drawn.shape[1] - picture.shape[0] * picture.shape[1]
    if min(size) >= 480:
        assert added < 0.6 * size[0] * size[1]
        assert count != 150 or shown > 15
    assert with_legend(picture, []) is picture


def test_legend_counts_what_has_no_room(monkeypatch):
    written = []
    real = with_legend.__globals__["text_mask"]
    monkeypatch.setattr("vision_tasks.visualize.legend.text_mask", lambda t, h: written.append(t) or real(t, h))
    fitted = with_legend.__globals__["fitted_text"]
    said = []
    monkeypatch.setattr("vision_tasks.visualize.legend.fitted_text", lambda t, *a: said.append(t) or fitted(t, *a))
    drawn = with_legend(np.zeros((64, 64, 3), np.uint8), [Entry((9, 200, 9), f"name {i}") for i in range(50)])
    shown = cv2.connectedComponents((drawn == (9, 200, 9)).all(2).astype(np.uint8))[0] - 1
    assert said == [f"+ {50 - shown} more"]
    assert GROUND in {tuple(int(v) for v in c) for c in drawn.reshape(-1, 3)}
    long = with_legend(np.zeros((64, 64, 3), np.uint8), [Entry((9, 200, 9), "n" * 500, "1.0 %")])
    assert long.shape[1] < 600


def test_comparison_has_a_panel_for_each_thing_known():
    image = np.full((120, 160, 3), 128, np.uint8)
    semantic = torch.zeros(120, 160, dtype=torch.int16)
    semantic[:60] = 1
    found = semantic.clone()
    found[60:80] = 3
    truth, prediction = Target(1, (120, 160), semantic=semantic), Prediction((120, 160), NAMES, semantic=found)
    drawn = draw_comparison(image, truth, prediction, legend=False)
    gap = 2
    strip = drawn.shape[0] - 120
    assert drawn.shape == (strip + 120, 3 * 160 + 2 * gap, 3)
    last = drawn[strip:, -160:]
    assert np.abs(last[70, 80] - (0.8 * 128 * 0.25 + 0.75 * np.asarray(WRONG))).max() <= 1
    assert last[30, 80].tolist() == [102] * 3
    assert FOUND in {tuple(int(v) for v in c) for c in drawn[:strip].reshape(-1, 3)}
    assert draw_comparison(image, truth, prediction).shape[0] > drawn.shape[0]
    boxes = torch.tensor([[20.0, 20, 60, 60]])
    both = dataclasses.replace(prediction, boxes=boxes, labels=torch.tensor([0]), scores=torch.tensor([0.9]))
    with_boxes = dataclasses.replace(truth, boxes=boxes, labels=torch.tensor([0]))
    rows = draw_comparison(image, with_boxes, both, legend=False)
    assert rows.shape[1] == drawn.shape[1]
    assert rows.shape[0] > drawn.shape[0] + 120
    merged = dataclasses.replace(both, panoptic=some_segments())
    beside = draw_comparison(image, with_boxes, merged, legend=False)
    assert abs(beside.shape[0] - rows.shape[0]) < 5
    assert (beside[60:100, -160:] != 255).any(2).all()
    assert (rows[60:100, -160:] == 255).all()
    # What one side lacks is left out; a map that cannot be compared is shown all the same.
    assert draw_comparison(image, Target(1, (120, 160)), prediction, legend=False).shape[1] == 160
    assert draw_comparison(image, truth, Prediction((120, 160), NAMES), legend=False).shape[1] == 160
    layers = Prediction((120, 160), NAMES, semantic=torch.zeros(4, 120, 160, dtype=torch.bool))
    assert draw_comparison(image, truth, layers, legend=False).shape[1] == 2 * 160 + gap


def test_sixteen_bits_and_many_channels():
    semantic = torch.zeros(20, 30, dtype=torch.int16)
    found = Prediction((20, 30), NAMES, semantic=semantic)
    deep = np.full((20, 30), 4095, np.uint16)
    expected = draw(np.full((20, 30, 3), 255, np.uint8), found)
    np.testing.assert_array_equal(draw(deep, found), expected)
    np.testing.assert_array_equal(draw(np.full((20, 30, 7), 255, np.uint8), found), expected)
    assert draw_comparison(deep, Target(1, (20, 30), semantic=semantic), found).dtype == np.uint8


@pytest.mark.parametrize("index", [0, 40])
def test_real_street_scenes(real_data, index):
    folder = real_data / "camvid"
    path = sorted((folder / "train").glob("*.png"))[index]
    names = [
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "signsymbol",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ]
    labels = cv2.imread(str(folder / "trainannot" / path.name), cv2.IMREAD_UNCHANGED).astype(np.int16)
    labels[labels == 11] = -1
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    drawn = draw(image, Target(1, labels.shape, semantic=torch.from_numpy(labels)), Categories.of(names))
    assert drawn.shape > image.shape
    entries = entries_of(torch.from_numpy(labels), Categories.of(names))
    present = {names[k] for k in np.unique(labels) if k >= 0}
    assert {e.name for e in entries} == present | ({"ignored"} if (labels < 0).any() else set())
    shares = [float(re.sub(r"[^0-9.]", "", e.value)) for e in entries]
    assert sum(shares) == pytest.approx(100, abs=0.6)
    assert shares[:-1] == sorted(shares[:-1], reverse=True)
