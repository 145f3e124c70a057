"""Tags: where they go, how large they are, that they stay there and leave in sight what they are of."""

import numpy as np
import pytest
import torch

from vision_tasks.structures import Categories, Prediction
from vision_tasks.visualize import tags as tags_module
from vision_tasks.visualize.drawing import draw, marks
from vision_tasks.visualize.tags import TagPlaces, letters_of, paint_tags
from vision_tasks.visualize.text import place_tag, place_tag_at
from vision_tasks.visualize.tracks import Trails

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CATEGORIES = Categories.of(["cat", "dog"])
NONE = np.zeros((0, 4), np.int64)


def tracked(boxes, ids, scores=None, size=(100, 200)):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    scores = torch.full((len(boxes),), 0.9) if scores is None else torch.as_tensor(scores)
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    return Prediction(size, CATEGORIES, boxes, labels, scores, track_ids=torch.as_tensor(ids, dtype=torch.int64))


def square(x, y, half=5.0):
    return [x - half, y - half, x + half, y + half]


def places_of(pictures, monkeypatch):
    """Where tags are painted, by words, in each of several pictures."""
    seen = []
    monkeypatch.setattr(tags_module, "paint_tag", lambda canvas, place, text, color: seen[-1].append(place))
    places = TagPlaces()
    for tags in pictures:
        seen.append([])
        paint_tags(np.zeros((300, 400, 3), np.uint8), tags, 12, places)
        seen[-1].reverse()
    return seen


def test_tags_stay_where_they_were(monkeypatch):
    """A neighbour drives a tag from its first spot; when that leaves, the tag does not jump back at once."""
    box = (100, 100, 200, 200)
    blocking, gone = (100, 84, 220, 120), (300, 250, 340, 290)
    red = (255, 0, 0)
    together = [((blocking[0], blocking[1] + 16, *blocking[2:]), "one tag", red, 1), (box, "two", red, 2)]
    apart = [(gone, "one tag", red, 1), (box, "two", red, 2)]
    seen = places_of([together, apart, apart], monkeypatch)
    driven = seen[0][1]
    assert driven[:2] != (100, 100 - (driven[3] - driven[1]))  # not above its box's left corner
    assert seen[1][1] == seen[2][1] == driven
    # After a while it looks for the best place again.
    later = places_of([together, *[apart] * 40], monkeypatch)[-1]
    best = place_tag(box, (driven[3] - driven[1], driven[2] - driven[0]), (300, 400), NONE)
    assert later[1] == best != driven


def test_the_order_of_scores_does_not_move_tags(monkeypatch):
    a = ((100, 100, 140, 140), "a long name", (255, 0, 0), 1)
    b = ((110, 102, 150, 142), "another name", (0, 255, 0), 2)
    c = ((104, 98, 150, 150), "newcomer", (0, 0, 255), 3)
    first, second, third = places_of([[a, b], [a, b], [c, a, b]], monkeypatch)
    assert first == second == third[:2]


def test_a_spot_is_left_at_the_frames_edge_or_where_it_covers():
    size, frame = (10, 40), (300, 400)
    assert place_tag_at((100, 100, 150, 150), size, frame, NONE, before=2) == ((100, 150, 140, 160), 2, 0)
    assert place_tag_at((100, 280, 150, 300), size, frame, NONE, before=2)[1] == 0
    covering = np.asarray([[100, 150, 140, 160]])
    assert place_tag_at((100, 100, 150, 150), size, frame, covering, before=2)[1] == 0
    slightly = np.asarray([[100, 159, 140, 170]])
    assert place_tag_at((100, 100, 150, 150), size, frame, slightly, before=2)[1] == 2


def test_tags_of_tiny_objects_are_small():
    """On an image of 8,000 × 6,000 letters are 100 pixels high; tags of objects of 20 would hide everything."""
    assert letters_of((0, 0, 600, 10), 100) == 100
    # "motorcycle 0.75" in letters of 100 is 840 pixels long: on objects of 200, side by side, it hides four others.
    assert letters_of((0, 0, 200, 200), 100) == 36
    assert letters_of((0, 0, 20, 12), 100) == 11
    heights = [letters_of((0, 0, side, side), 100) for side in range(5, 700)]
    assert heights == sorted(heights)
    assert len(set(heights)) <= 7  # few sizes: rows of tags look even
    assert letters_of((0, 0, 5, 5), 9) == 9  # of small images letters are small already
    # An object that grows and shrinks by a tenth keeps its size.
    kept = letters_of((0, 0, 60, 60), 100)
    for side in (55, 65, 60, 56, 64):
        kept = letters_of((0, 0, side, side), 100, kept)
        assert kept == letters_of((0, 0, 60, 60), 100)
    assert letters_of((0, 0, 600, 600), 100, kept) == 100


def test_tiny_objects_are_still_seen():
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 1900, (60, 2))
    boxes = torch.from_numpy(np.concatenate([corners, corners + 15], 1)).float()
    labels = torch.zeros(60, dtype=torch.int64)
    found = Prediction((2000, 2000), CATEGORIES, boxes, labels, torch.full((60,), 0.9))
    drawn = draw(np.zeros((2000, 2000, 3), np.uint8), found)
    assert 0.01 < drawn.any(2).mean() < 0.03


def test_tags_that_would_be_hidden_are_left_out(monkeypatch):
    crowd = [((10, 20, 30, 40), f"name {i}", (255, 0, 0), i) for i in range(60)]
    placed = places_of([crowd], monkeypatch)[0]
    assert 4 <= len(placed) <= 13  # spots round one box, fewer at the corner of the frame
    x1, y1, x2, y2 = placed[0]  # the best is where it would be alone
    assert (x1, y1, x2, y2) == place_tag((10, 20, 30, 40), (y2 - y1, x2 - x1), (300, 400), NONE)


def test_tags_leave_small_objects_in_sight():
    """Above the large box lies a small one: the tag goes elsewhere, unless it covers less than a third of it."""
    large, small, size = (100, 100, 200, 200), (100, 84, 120, 100), (16, 60)
    alone = np.asarray([large])
    assert place_tag_at(large, size, (300, 400), NONE, objects=alone)[1] == 0
    both = np.asarray([large, small])
    place = place_tag_at(large, size, (300, 400), NONE, objects=both)[0]
    assert max(place[0], small[0]) >= min(place[2], small[2]) or max(place[1], small[1]) >= min(place[3], small[3])
    wide = np.asarray([large, (100, 84, 320, 100)])
    assert place_tag_at(large, size, (300, 400), NONE, objects=wide)[1] == 0


def crowd(columns, rows, width=60, height=150, size=(1080, 1920)):
    """People side by side on a large picture, in rows."""
    x, y = np.meshgrid(40 + np.arange(columns) * (width + 12), 60 + np.arange(rows) * (height + 25))
    corners = np.stack([x.ravel(), y.ravel()], 1)
    boxes = np.concatenate([corners, corners + np.asarray([width, height])], 1)
    return tracked(boxes, np.arange(len(boxes)) + 10, size=size)


def test_tags_of_a_crowd_are_about_as_wide_as_their_objects_and_above_them(monkeypatch):
    seen = []
    monkeypatch.setattr(tags_module, "paint_tag", lambda canvas, place, text, color: seen.append(place))
    people = crowd(12, 3)
    draw(np.zeros((1080, 1920, 3), np.uint8), people, trails=Trails(), scores=False)
    assert len(seen) == len(people.boxes)
    widths = [place[2] - place[0] for place in seen]
    assert sum(width > 90 for width in widths) <= 3  # those at the end of rows have room beside them
    tops = {round(float(box[1])) for box in people.boxes}
    assert np.mean([place[3] in tops for place in seen]) > 0.9


def test_letters_keep_their_size_where_a_neighbour_comes_and_goes():
    person, far, near = (100, 100, 170, 290), (900, 100, 970, 290), (210, 100, 280, 290)
    frame = np.zeros((1080, 1920, 3), np.uint8)
    places = TagPlaces()
    sizes = []
    for other in (far, near, (280, 100, 350, 290), near, far):
        paint_tags(frame, [(person, "person #1 0.90", (255, 0, 0), 1), (other, "", (0, 0, 0), 2)], 26, places)
        sizes.append(places.letters(1))
    assert sizes == [16, 11, 11, 11, 16]


def test_tags_in_a_large_object_stay_large():
    """A rider on a bus: nothing is hidden by a tag on what is much larger."""
    places = TagPlaces()
    tags = [((100, 300, 170, 490), "person #1 0.90", (255, 0, 0), 1), ((50, 100, 1500, 900), "bus", (0, 0, 255), 2)]
    paint_tags(np.zeros((1080, 1920, 3), np.uint8), tags, 26, places)
    assert (places.letters(1), places.letters(2)) == (16, 26)  # a person in no company, by the width of the tag


def test_tags_leave_heads_free():
    """Above the person is another's head: the tag goes elsewhere, and off its own head, too; feet may be covered."""
    person, size, frame = (100, 200, 140, 300), (17, 60), (400, 400)
    behind = (110, 180, 150, 280)
    place, spot, _ = place_tag_at(person, size, frame, NONE, objects=np.asarray([person, behind]))
    assert spot != 0
    for head in ((100, 200, 140, 225), (110, 180, 150, 205)):
        assert max(place[0], head[0]) >= min(place[2], head[2]) or max(place[1], head[1]) >= min(place[3], head[3])
    before = (105, 100, 145, 200)
    assert place_tag_at(person, size, frame, NONE, objects=np.asarray([person, before]))[1] == 0


def test_tags_may_be_numbers_only():
    found = tracked([square(20, 20), square(60, 60)], [4, -1])
    assert [mark.tag for mark in marks(found, CATEGORIES, names=False, scores=False)] == ["", "#4"]
    assert [mark.tag for mark in marks(found, CATEGORIES, names=False)] == ["0.90", "#4 0.90"]
    assert [mark.tag for mark in marks(found, CATEGORIES, scores=False)] == ["cat", "cat #4"]
    image = np.zeros((100, 200, 3), np.uint8)
    bare = draw(image, tracked([square(60, 60)], [-1]), names=False, scores=False)
    np.testing.assert_array_equal(bare, draw(image, tracked([square(60, 60)], [-1]), labels=False))
