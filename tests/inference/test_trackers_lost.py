"""Objects that hide, cross, turn, and come back: what each tracker was made for."""

from __future__ import annotations

import numpy as np
import pytest

from tests.inference.tracked_scenes import at, box, followed, found, ids
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.tracking.kalman import VELOCITY
from vision_tasks.inference.tracking.registry import create_tracker
from vision_tasks.structures import Prediction

NOTHING = found([])


def _crossing() -> list[Prediction]:
    """Two walk through each other at 8 pixels a picture; neither is seen in the 11 pictures in the middle."""
    steps = range(-30, 30)
    pairs = [[box(300 + 8 * k), box(300 - 8 * k, y=110)] for k in steps]
    return [found([] if abs(k) <= 5 else pair) for k, pair in zip(steps, pairs, strict=True)]


def test_a_crossing_out_of_sight_costs_sort_its_numbers_and_the_others_nothing() -> None:
    for name, after in (("sort", [3, 4]), ("bytetrack", [1, 2]), ("ocsort", [1, 2])):
        seen = followed(create_tracker(name), _crossing())
        assert seen[0] == [1, 2], name
        assert seen[-1] == after, name


def test_who_stops_behind_a_pillar_is_found_where_he_vanished() -> None:
    """At 12 pixels a picture, then hidden for 10 and back where he went: SORT waits far ahead of him."""
    scene = [found([box(12 * k)]) for k in range(20)] + [NOTHING] * 10 + [found([box(12 * 20)])] * 6
    assert followed(create_tracker("ocsort"), scene)[-1] == [1]
    assert followed(create_tracker("sort", max_age=30), scene)[-1] == [2]


def test_who_comes_back_is_led_along_the_line_between_both_sights() -> None:
    """Up to 100 at +5 a picture, hidden for 9, then at 70: -3 a picture, says the line."""
    scene = [found([box(5 * k)]) for k in range(21)] + [NOTHING] * 9 + [found([box(70)])]
    tracker = create_tracker("ocsort", iou=0.11)
    for prediction in scene:
        tracker.update(prediction)
    assert tracker.tracks.ids.tolist() == [1]
    walk = [5.0 * k for k in range(21)] + [100 - 3.0 * k for k in range(1, 11)]
    told = tracker.motion.start(np.array([box(0)]))
    for x in walk[1:]:
        told = tracker.motion.update(tracker.motion.predict(told), np.array([box(x)]))
    told = tracker.motion.update(told, np.array([box(70)]))  # twice, as in the authors' code
    np.testing.assert_allclose(tracker.tracks.state, told, rtol=1e-6)
    assert abs(told[0, VELOCITY, 0]) < 1  # no longer the 5 that it was lost with


def test_of_two_equal_overlaps_the_one_ahead_is_taken() -> None:
    """A track moving right and down the middle; detections as far to its left as to its right."""
    for inertia, chosen in ((0.2, 1), (0.0, None)):
        tracker = create_tracker("ocsort", inertia=inertia)
        for k in range(10):
            tracker.update(found([box(4 * k)]))
        ahead = tracker.motion.boxes(tracker.motion.predict(tracker.tracks.state))[0]
        shift = np.array([15.0, 0, 15, 0])
        tracker.update(found([ahead - shift, ahead + shift]))
        if chosen is not None:
            assert tracker.tracks.found.tolist()[0] == chosen


def test_there_is_no_direction_before_the_third_sight() -> None:
    tracker = create_tracker("ocsort")
    directions = []
    for k in range(4):
        tracker.update(found([box(3 * k, 100 + 4 * k)]))
        directions.append(tracker.tracks.direction[0].tolist())
    assert directions[:2] == [[0, 0], [0, 0]]
    assert directions[3] == pytest.approx([0.6, 0.8], abs=1e-5)


def test_what_was_seen_moves_with_the_camera() -> None:
    """Who stands still and hides while the camera pans by 90 pixels is where the camera says."""
    tracker = create_tracker("ocsort", camera_motion="orb")
    world = np.random.default_rng(8).integers(0, 255, (60, 120, 3), np.uint8).repeat(9, axis=0).repeat(9, axis=1)
    for k in range(6):
        tracker.update(found([box(500 + 2 * k)]), at(None, k, np.ascontiguousarray(world[:, 0:900])))
    for k in range(3):
        tracker.update(NOTHING, at(None, 6 + k, np.ascontiguousarray(world[:, 30 * (k + 1) : 900 + 30 * (k + 1)])))
    tracks = tracker.tracks
    np.testing.assert_allclose(tracks.last[0], box(510 - 90), atol=2)
    np.testing.assert_allclose(tracks.direction[0], [1, 0], atol=0.02)
    np.testing.assert_allclose(tracker.motion.boxes(tracks.kept_state)[0], box(510 - 90), atol=4)
    assert ids(tracker.update(found([box(512 - 90)]), at(None, 9, np.ascontiguousarray(world[:, 90:990])))) == []
    assert tracks.ids.tolist() == [1]
    np.testing.assert_allclose(tracker.tracks.last[0], box(512 - 90), atol=2)


@pytest.mark.parametrize(("gap", "kept"), [(25, True), (40, False)])
def test_bytetrack_waits_thirty_frames(gap: int, kept: bool) -> None:
    scene = [found([box(100)])] * 5 + [NOTHING] * gap + [found([box(100)])] * 3
    assert (followed(create_tracker("bytetrack"), scene)[-1] == [1]) is kept


def test_one_missing_picture_costs_bytetrack_nothing_whatever_its_buffer() -> None:
    scene = [*[found([box(100)])] * 5, NOTHING, found([box(100)])]
    assert followed(create_tracker("bytetrack", buffer=0), scene)[-1] == [1]


def test_bytetracks_wait_is_a_second_whatever_the_rate() -> None:
    """40 frames at 60 a second are less than a second; the same 40 at 30 a second are not."""
    for rate, number in ((60.0, 1), (30.0, 2)):
        tracker = create_tracker("bytetrack", rate=rate)
        assert tracker.longest_loss == rate
        for step in (*range(5), *range(45, 48)):
            out = tracker.update(found([box(100)]), at(step / rate, step))
        assert ids(out) == [number]


def test_low_scores_carry_a_track_of_bytetrack_but_begin_none() -> None:
    scene = [found([box(10 + k)], 0.9) for k in range(5)]
    scene += [found([box(15 + k), box(700)], [0.3, 0.3]) for k in range(10)]
    assert followed(create_tracker("bytetrack"), scene) == [[1]] * 15
    assert followed(create_tracker("ocsort"), scene)[5:] == [[]] * 10
    assert followed(create_tracker("ocsort", low_scores=True), scene) == [[1]] * 15
    assert followed(create_tracker("bytetrack", threshold=0.4), scene)[5:] == [[]] * 10


def test_bytetrack_begins_with_more_than_a_high_score_and_a_second_sight() -> None:
    tracker = create_tracker("bytetrack")
    tracker.update(NOTHING)
    seen = followed(tracker, [found([box(10), box(500)], [0.65, 0.75])] * 3)
    assert seen == [[], [1], [1]]  # the first scores below 0.7, the second is new, then known
    once = followed(tracker, [found([box(900)], 0.9), NOTHING, found([box(900)], 0.9)])
    assert once == [[], [], []]


def test_overlap_counts_for_less_where_the_score_is_low() -> None:
    """Overlap 1/3: times 0.9 it is above the 0.2 that `match` asks for; times 0.61, moved on to 0.32, it is not."""
    for score, kept in ((0.9, [1]), (0.61, [])):
        tracker = create_tracker("bytetrack")
        tracker.update(found([box(100)]))
        share = 1 / 3 if score == 0.9 else 0.32
        shift = 40 * (1 - share) / (1 + share)
        assert ids(tracker.update(found([box(100 + shift)], score))) == kept


def test_sort_shows_a_track_after_three_pictures_in_a_row() -> None:
    tracker = create_tracker("sort")
    followed(tracker, [NOTHING] * 5)
    assert followed(tracker, [found([box(10)])] * 5) == [[], [], [], [1], [1]]
    assert followed(tracker, [NOTHING, *[found([box(10)])] * 4]) == [[], [], [], [1], [1]]


def test_half_a_track_that_doubles_another_goes() -> None:
    """Two objects merge into one: the one that was followed for less time gives way."""
    tracker = create_tracker("bytetrack")
    followed(tracker, [found([box(10)])] * 10)
    followed(tracker, [found([box(10), box(26)])] * 5)
    followed(tracker, [found([box(10), box(26 - 4 * k)], [0.9, 0.8]) for k in range(4)])
    followed(tracker, [found([box(10)])] * 3)
    assert tracker.tracks.ids.tolist() == [1]


# Looks

RED, BLUE = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
EITHER = ("sort", "bytetrack", "ocsort")


@pytest.mark.parametrize("name", EITHER)
def test_looks_tell_apart_what_overlap_cannot(name: str) -> None:
    """Two stand close and change places between two pictures; only their looks say so."""
    before = found([box(100), box(116)], embeddings=np.stack([RED, BLUE]))
    after = found([box(100), box(116)], embeddings=np.stack([BLUE, RED]))
    plain = create_tracker(name)
    assert followed(plain, [before] * 5 + [after])[-1] == [1, 2]
    assert not plain.needs_embeddings
    looking = create_tracker(name, appearance=True, appearance_weight=1.0)
    assert looking.needs_embeddings
    assert followed(looking, [before] * 5 + [after])[-1] == [2, 1]


@pytest.mark.parametrize("name", ["bytetrack", "ocsort"])
def test_looks_find_again_who_comes_back_elsewhere(name: str) -> None:
    """Hidden for 12 pictures and back 60 pixels aside, which no overlap explains; a stranger there is a stranger."""
    begin = [found([box(100)], embeddings=RED[None])] * 8
    hidden = [found([], embeddings=np.empty((0, 3)))] * 12
    back = [found([box(160)], embeddings=RED[None])] * 5
    stranger = [found([box(160)], embeddings=BLUE[None])] * 5
    assert followed(create_tracker(name, appearance=True), begin + hidden + back)[-1] == [1]
    assert followed(create_tracker(name, appearance=True), begin + hidden + stranger)[-1] == [2]
    assert followed(create_tracker(name), begin + hidden + back)[-1] == [2]


@pytest.mark.parametrize("name", ["bytetrack", "ocsort"])
def test_a_double_at_the_other_end_of_the_picture_is_someone_else(name: str) -> None:
    scene = [found([box(100)], embeddings=RED[None])] * 8 + [found([], embeddings=np.empty((0, 3)))] * 3
    scene += [found([box(900)], embeddings=RED[None])] * 5
    assert followed(create_tracker(name, appearance=True), scene)[-1] == [2]


def test_looks_are_a_moving_average_of_length_one() -> None:
    tracker = create_tracker("sort", appearance=True)
    tracker.update(found([box(100)], embeddings=RED[None]))
    tracker.update(found([box(100)], embeddings=BLUE[None]))
    np.testing.assert_allclose(tracker.tracks.embeddings[0], [0.9, 0, 0.1] / np.hypot(0.9, 0.1), rtol=1e-6)


def test_half_hidden_objects_do_not_change_their_look() -> None:
    tracker = create_tracker("bytetrack", appearance=True)
    tracker.update(found([box(100)], embeddings=RED[None]))
    tracker.update(found([box(100)], 0.3, embeddings=BLUE[None]))
    np.testing.assert_allclose(tracker.tracks.embeddings[0], RED)


def test_looks_that_are_missing_are_told() -> None:
    with pytest.raises(VisionTasksError, match="needs embeddings"):
        create_tracker("sort", appearance=True).update(found([box(1)]))
