"""Drawn tracks: colours that stay, trails that fade, bounded memory; masks as everybody else renders them."""

import numpy as np
import pytest
import torch

from vision_tasks.categories import category_color
from vision_tasks.errors import VisionTasksError
from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Categories, Masks, Prediction, Target
from vision_tasks.visualize.comparison import draw_comparison
from vision_tasks.visualize.drawing import draw, marks
from vision_tasks.visualize.instances import mask_within
from vision_tasks.visualize.tracks import Trails, track_color

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CATEGORIES = Categories.of(["cat", "dog"])


def tracked(boxes, ids, scores=None, size=(100, 200)):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    scores = torch.full((len(boxes),), 0.9) if scores is None else torch.as_tensor(scores)
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    return Prediction(size, CATEGORIES, boxes, labels, scores, track_ids=torch.as_tensor(ids, dtype=torch.int64))


def square(x, y, half=5.0):
    return [x - half, y - half, x + half, y + half]


def test_colours_are_of_the_track():
    """Tracks share a category and differ in colour; the same track has one colour, wherever it stands in the list."""
    one = marks(tracked([square(20, 20), square(60, 60)], [4, 5], [0.5, 0.9]), CATEGORIES)
    assert [mark.track for mark in one] == [4, 5]  # not by score: what is on top stays on top
    assert [mark.color for mark in one] == [category_color(4), category_color(5)]
    assert [mark.tag for mark in one] == ["cat #4 0.50", "cat #5 0.90"]
    other = marks(tracked([square(60, 60), square(20, 20)], [5, 4]), CATEGORIES)
    assert {mark.track: mark.color for mark in other} == {mark.track: mark.color for mark in one}
    assert len({track_color(i) for i in range(100, 114)}) == 14
    assert track_color(3) == track_color(17)


def test_objects_without_a_track():
    found = marks(tracked([square(20, 20)], [-1]), CATEGORIES)[0]
    assert (found.color, found.tag) == (CATEGORIES.colors[0], "cat 0.90")


def test_a_comparison_judges_tracked_predictions_by_score():
    truth = Target(1, (100, 200), torch.tensor([square(20.0, 20.0)]), torch.tensor([0]))
    both = tracked([square(20, 20), square(60, 60)], [9, 2], [0.9, 0.6])
    plain = Prediction((100, 200), CATEGORIES, both.boxes, both.labels, both.scores)
    image = np.zeros((100, 200, 3), np.uint8)
    np.testing.assert_array_equal(draw_comparison(image, truth, both), draw_comparison(image, truth, plain))


def test_a_trail_lies_on_the_way_and_fades():
    trails = Trails(length=20)
    for t in range(15):
        trails.update(tracked([square(20 + 10 * t, 50)], [1]))
    canvas = np.zeros((100, 200, 3), np.uint8)
    trails.paint(canvas, 3)
    rows, columns = np.nonzero(canvas.any(2))
    assert abs(int(rows.min()) + int(rows.max()) - 100) <= 2
    assert rows.max() - rows.min() <= 8
    assert 15 <= columns.min() <= 21
    assert 159 <= columns.max() <= 165
    strength = canvas[50, [25, 60, 95, 130, 157]].astype(int).sum(1)
    assert (np.diff(strength) > 0).all()
    newest = canvas[50, 157] / np.asarray(track_color(1))
    assert (np.abs(newest - newest.mean()) < 0.06).all()  # the track's colour, a little transparent
    feet = Trails(point="foot")
    for t in range(15):
        feet.update(tracked([square(20 + 10 * t, 50)], [1]))
    canvas[:] = 0
    feet.paint(canvas, 3)
    assert abs(np.nonzero(canvas.any(2))[0].mean() - 55) < 1
    larger = np.zeros((200, 400, 3), np.uint8)
    trails.paint(larger, 3, zoom=2)
    assert abs(np.nonzero(larger.any(2))[0].mean() - 100) < 2


def test_what_stands_still_has_no_trail():
    trails = Trails()
    for t in range(30):
        trails.update(tracked([square(50 + t % 2, 50)], [1]))
    canvas = np.zeros((100, 200, 3), np.uint8)
    trails.paint(canvas, 3)
    assert not canvas.any()


def test_memory_is_bounded_and_lost_tracks_are_forgotten():
    trails = Trails(length=10)
    for t in range(200):
        trails.update(tracked([square(20 + t, 50), square(100, 20 + t)], [7, 1000 + t]))
    assert len(trails) == 6  # one that goes on, five that were here just now or are fading
    assert max(len(way) for way in trails._ways.values()) == 10
    for _ in range(4):
        trails.update(tracked([], []))
    assert len(trails) == 2  # what was in the last picture that had anything
    trails.update(tracked([], []))
    assert len(trails) == 0
    trails.update(tracked([square(1, 1)], [3]))
    trails.reset()
    assert len(trails) == 0


def painted(trails):
    canvas = np.zeros((100, 200, 3), np.uint8)
    trails.paint(canvas, 3)
    return canvas


@pytest.mark.parametrize("gap", [0.04, 0.12])
def test_trails_are_as_long_in_seconds_whatever_frames_are_left_out(gap):
    """An object at 80 pixels a second leaves 120 pixels, of every frame and of every third."""
    trails = Trails(seconds=1.5)
    times = np.arange(0, 2.0, gap)
    for time in times:
        trails.update(tracked([square(20 + 80 * time, 50)], [1]), float(time))
    columns = np.nonzero(painted(trails).any((0, 2)))[0]
    assert abs(int(columns.max()) - (20 + 80 * times[-1])) < 6
    assert 120 - 80 * gap - 6 <= columns.max() - columns.min() <= 130


@pytest.mark.parametrize("gap", [None, 0.04])
def test_trails_fade_soon_after_their_objects_are_out_of_sight(gap):
    trails = Trails()
    for t in range(30):
        trails.update(tracked([square(20 + 5 * t, 50)], [1]), None if gap is None else t * gap)
    seen = [int(painted(trails).sum())]
    for t in range(30, 39):
        trails.update(tracked([], []), None if gap is None else t * gap)
        seen.append(int(painted(trails).sum()))
    assert (np.diff(seen[:5]) < 0).all()
    assert seen[-1] == len(trails) == 0


def test_a_clock_that_jumps_or_ceases_begins_trails_anew():
    for then in (0.0, None):
        trails = Trails()
        for t in range(10):
            trails.update(tracked([square(20 + 5 * t, 50)], [1]), 9 + t / 25)
        trails.update(tracked([square(70, 50)], [1]), then)
        assert not painted(trails).any()
        assert len(trails) == 1


def test_odd_ways_are_drawn_without_harm():
    trails = Trails()
    places = [(0, 0), (-500, 40), (1e9, 1e9), (float("nan"), 1), (200, 100), (float("inf"), 3), (50, 50)]
    for x, y in places:
        found = tracked([square(x, y), square(y, x)], [1, -1])
        trails.update(found)
        drawn = draw(np.zeros((100, 200, 3), np.uint8), found, trails=trails)
        assert drawn.shape == (100, 200, 3)
    trails.update(Prediction((100, 200), CATEGORIES))
    for wrong in ({"length": 0}, {"point": "top"}, {"seconds": 0}):
        with pytest.raises(VisionTasksError):
            Trails(**wrong)


def test_trails_lie_below_boxes_and_need_tracks():
    trails = Trails()
    found = tracked([square(100, 50, 20)], [1])
    for x in range(40, 101, 5):
        trails.update(tracked([square(x, 50, 20)], [1]))
    plain = draw(np.zeros((100, 200, 3), np.uint8), found, labels=False)
    drawn = draw(np.zeros((100, 200, 3), np.uint8), found, labels=False, trails=trails)
    assert tuple(drawn[50, 80]) == tuple(plain[50, 80]) == track_color(1)  # the box's left edge
    assert drawn[50, 60].any()
    assert not plain[50, 60].any()


@pytest.mark.parametrize("seed", range(4))
def test_masks_equal_those_of_the_evaluation(seed):
    """Grids resized by OpenCV against `ops.masks.render`, which equals torchvision's: at most a pixel at ties."""
    generator = torch.Generator().manual_seed(seed)
    size = (90, 120)
    low = torch.rand(12, 2, generator=generator) * torch.tensor([110.0, 80.0]) - 10
    boxes = torch.cat([low, low + 1 + 60 * torch.rand(12, 2, generator=generator)], 1)
    masks = Masks(size, grid=torch.rand(12, 28, 28, generator=generator), boxes=boxes)
    for window in ((0, 0, 120, 90), (17, 23, 71, 64)):
        expected = mask_ops.render(masks, window).numpy()
        for i in range(12):
            found = mask_within(masks[[i]], window)
            assert found.shape == expected[i].shape
            assert int((found != expected[i]).sum()) <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (7, 9), (64, 64)])
def test_masks_at_all_borders(size):
    height, width = size
    boxes = torch.tensor(
        [
            [0.0, 0, width, height], [0, 0, 1, 1], [width - 1, height - 1, width, height], [-9, -9, width, height],
            [width / 2, -9, width / 2, height], [-30, -30, -20, -20], [-40, -40, 40, 40],
        ]
    )  # fmt: skip
    masks = Masks(size, grid=torch.ones(len(boxes), 28, 28), boxes=boxes)
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    found = Prediction(size, CATEGORIES, boxes, labels, torch.full((len(boxes),), 0.9), masks)
    for zoom in (1, 3):
        drawn = draw(np.zeros((*size, 3), np.uint8), found, labels=False, zoom=zoom)
        assert drawn.shape == (height * zoom, width * zoom, 3)
        assert drawn.any()


def test_other_forms_of_masks_are_drawn_alike():
    grid = Masks((60, 60), grid=torch.ones(1, 28, 28), boxes=torch.tensor([[10.0, 10, 50, 40]]))
    coded = Masks((60, 60), shapes=list(mask_ops.to_rles(grid)))
    image = np.full((60, 60, 3), 90, np.uint8)
    pictures = []
    for masks in (grid, coded):
        found = Prediction((60, 60), CATEGORIES, grid.boxes, torch.tensor([0]), torch.tensor([0.9]), masks)
        pictures.append(draw(image, found, labels=False))
    np.testing.assert_array_equal(pictures[0], pictures[1])
    tint = 90 * 0.65 + 0.35 * np.asarray(CATEGORIES.colors[0])
    assert (np.abs(pictures[0][25, 30] - tint) <= 1).all()
