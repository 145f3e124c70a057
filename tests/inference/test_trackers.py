"""What every tracker promises, whichever it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.inference.tracked_scenes import CATEGORIES, at, box, followed, found, ids
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.tracking.base import Tracker
from vision_tasks.inference.tracking.registry import TRACKERS, create_tracker
from vision_tasks.inference.tracking.timing import FrameClock
from vision_tasks.structures import Masks, Prediction

NAMES = sorted(TRACKERS)
each_tracker = pytest.mark.parametrize("name", NAMES)


@each_tracker
def test_one_walker_keeps_number_one(name: str) -> None:
    seen = followed(create_tracker(name), [found([box(10 + 3 * step)]) for step in range(12)])
    assert seen[0] == [1]  # the first picture of a source is trusted
    assert seen == [[1]] * 12


@each_tracker
def test_pictures_without_objects(name: str) -> None:
    tracker = create_tracker(name)
    nothing = found([])
    assert followed(tracker, [nothing, nothing]) == [[], []]
    out = tracker.update(nothing)
    assert out.boxes is not None
    assert out.boxes.shape == (0, 4)
    assert out.track_ids is not None
    assert out.track_ids.dtype == torch.int64
    seen = followed(tracker, [found([box(50)])] * 6 + [nothing] + [found([box(50)])] * 5)
    assert seen[-1] == [1]


@each_tracker
def test_reset_starts_at_one_again(name: str) -> None:
    tracker = create_tracker(name)
    scene = [found([box(10), box(500)])] * 3
    assert followed(tracker, scene)[-1] == [1, 2]
    tracker.reset()
    assert followed(tracker, scene)[-1] == [1, 2]
    assert len(tracker.tracks) == 2


@each_tracker
def test_boxes_that_are_none_are_passed_over(name: str) -> None:
    nan, inf = float("nan"), float("inf")
    bad = [[nan, 0, 10, 10], [0, 0, inf, 10], [50, 50, 50, 90], [90, 50, 50, 90]]
    tracker = create_tracker(name)
    for _ in range(5):
        out = tracker.update(found([bad[0], box(300), *bad[1:]], scores=[0.9, 0.8, 0.9, 0.9, 0.9]))
        assert ids(out) == [1]
        assert out.scores is not None
        assert out.scores.tolist() == pytest.approx([0.8])
    scores_of_nothing = found([box(300), box(700)], scores=[0.9, nan])
    assert ids(tracker.update(scores_of_nothing)) == [1]


@each_tracker
def test_identical_boxes_are_as_many_objects(name: str) -> None:
    seen = followed(create_tracker(name), [found([box(10 + step)] * 3) for step in range(8)])
    assert [sorted(row) for row in seen] == [[1, 2, 3]] * 8


@each_tracker
def test_two_thousand_objects(name: str) -> None:
    generator = np.random.default_rng(5)
    x, y = np.meshgrid(np.arange(50) * 38.0, np.arange(40) * 26.0)
    corners = np.column_stack((x.ravel(), y.ravel(), x.ravel() + 30, y.ravel() + 20))
    order = generator.permutation(len(corners))
    tracker = create_tracker(name)
    first = ids(tracker.update(found(corners)))
    for _ in range(3):
        corners = corners + generator.normal(0, 0.5, corners.shape)
        out = ids(tracker.update(found(corners[order])))
    assert first == list(range(1, 2001))
    assert out == [first[i] for i in order]


@each_tracker
def test_masks_scores_and_embeddings_stay_with_their_objects(name: str) -> None:
    tracker = create_tracker(name)
    size = (1080, 1920)
    for step in range(4):
        prediction = found([box(10 + step), box(600 - step)], [0.9, 0.8], [1, 2], np.array([[1.0, 0], [0, 1]]))
        turn = [0, 1] if step % 2 == 0 else [1, 0]
        grids = torch.stack([torch.full((28, 28), 0.25), torch.full((28, 28), 0.75)])
        prediction = dataclasses.replace(prediction, masks=Masks(size, grid=grids, boxes=prediction.boxes))[turn]
        out = tracker.update(prediction)
        assert ids(out) == [1, 2] if step % 2 == 0 else [2, 1]
        assert out.masks is not None
        assert out.masks.grid is not None
        assert out.masks.grid[:, 0, 0].tolist() == [[0.25, 0.75][i] for i in turn]
        assert out.scores is not None
        assert out.scores.tolist() == pytest.approx([[0.9, 0.8][i] for i in turn])
        assert out.labels is not None
        assert out.labels.tolist() == [[1, 2][i] for i in turn]
        assert out.embeddings is not None
        assert out.embeddings.argmax(dim=1).tolist() == turn
        assert torch.equal(out.masks.boxes, prediction.boxes)


@each_tracker
def test_predictions_without_scores_and_labels(name: str) -> None:
    bare = Prediction((100, 100), CATEGORIES, boxes=torch.tensor([box(5)]))
    out = create_tracker(name).update(bare)
    assert ids(out) == [1]
    assert out.scores is None
    assert out.labels is None


@each_tracker
def test_a_prediction_is_not_changed(name: str) -> None:
    tracker, prediction = create_tracker(name), found([box(10)])
    before = prediction.boxes.clone()
    for _ in range(4):
        tracker.update(prediction)
    assert torch.equal(prediction.boxes, before)
    assert prediction.track_ids is None


@each_tracker
def test_models_of_maps_cannot_be_tracked(name: str) -> None:
    with pytest.raises(VisionTasksError, match="follows boxes"):
        create_tracker(name).update(Prediction((4, 4), CATEGORIES))


@each_tracker
def test_the_filter_the_detection_or_what_the_authors_give(name: str) -> None:
    steps = [found([box(10 + 10 * step + (4 if step % 2 else 0))]) for step in range(10)]
    last = steps[-1].boxes
    given: dict[str, torch.Tensor] = {}
    for which in ("auto", "state", "detection"):
        tracker = create_tracker(name, boxes=which)
        for step in steps:
            out = tracker.update(step)
        given[which] = out.boxes
        assert out.boxes.dtype == torch.float32
    assert torch.equal(given["detection"], last)
    assert not torch.allclose(given["state"], last, atol=0.1)
    assert torch.equal(given["auto"], given["detection" if name == "ocsort" else "state"])


# Labels


@each_tracker
def test_a_category_is_voted_by_score(name: str) -> None:
    """Car, car, then bus once at a lower score: still a car; then bus for long: a bus."""
    tracker = create_tracker(name)
    seen = []
    for label, score in [(1, 0.9)] * 4 + [(2, 0.65)] + [(1, 0.9)] + [(2, 0.9)] * 12:
        out = tracker.update(found([box(10)], score, label))
        seen.append(out.labels.tolist())
        assert ids(out) == [1]
    assert seen[:9] == [[1]] * 9
    assert seen[-1] == [2]
    plain = create_tracker(name, label_memory=0)
    assert [plain.update(found([box(10)], 0.9, label)).labels.tolist() for label in (1, 2, 0)] == [[1], [2], [0]]


@each_tracker
def test_per_class_objects_do_not_take_each_others_place(name: str) -> None:
    scene = [found([box(10)], labels=1)] * 6 + [found([box(10)], labels=2)] * 6
    assert followed(create_tracker(name), scene)[-1] == [1]
    assert followed(create_tracker(name, per_class=True), scene)[-1] == [2]


# Time


@each_tracker
def test_time_stamps_count_not_pictures(name: str) -> None:
    """At 30 px a frame, three frames on it is 60 px ahead of the next one, its own width; only the time says so."""
    times = [step / 30 for step in (0, 1, 2, 3, 4, 5, 6, 9, 10, 12, 15)]
    tracker = create_tracker(name, rate=30)
    seen = []
    for index, time in enumerate(times):
        x = 30 * 30 * time
        seen.append(ids(tracker.update(found([box(x, width=60)]), at(round(time, 3), index))))
    assert seen == [[1]] * len(times)
    untold = followed(create_tracker(name), [found([box(30 * 30 * time, width=60)]) for time in times])
    assert untold != [[1]] * len(times)


@each_tracker
def test_numbers_of_frames_tell_what_is_missing_where_there_is_no_time(name: str) -> None:
    tracker = create_tracker(name)
    seen = [ids(tracker.update(found([box(30 * i, width=60)]), at(None, i))) for i in (0, 1, 2, 3, 4, 5, 8, 9, 12)]
    assert seen == [[1]] * 9


def test_steps_are_whole_frames_where_stamps_are_rounded() -> None:
    """Stamps of 10 ms at 23.976 frames a second: nearly one frame is one; half a frame stays half a frame."""
    clock = FrameClock(23.976)
    steps = [clock.step(at(time)) for time in (0.0, 0.04, 0.08, 0.17, 0.19)]
    assert steps[:3] == [1, 1, 1]
    assert steps[3:] == [pytest.approx(0.09 * 23.976), pytest.approx(0.02 * 23.976)]
    assert clock.step(None) == 1


@each_tracker
def test_clocks_that_stand_still_or_go_back(name: str) -> None:
    tracker = create_tracker(name)
    for time in (5.0, 5.0, 1.0, float("nan"), 1.033, None, 1.1):
        assert ids(tracker.update(found([box(10)]), at(time))) == [1]


@each_tracker
def test_after_a_long_gap_all_is_new(name: str) -> None:
    tracker = create_tracker(name, rate=30)
    for step in range(5):
        tracker.update(found([box(10)]), at(step / 30))
    for step in range(8):
        out = tracker.update(found([box(10)]), at(100 + step / 30))
    assert ids(out) == [2]


@each_tracker
def test_few_pictures_a_second_are_no_gap(name: str) -> None:
    """A stream of 5 pictures a second under a tracker told of 30."""
    tracker = create_tracker(name, rate=30)
    assert [ids(tracker.update(found([box(10 + step)]), at(step / 5))) for step in range(8)] == [[1]] * 8


# Options


def test_unknown_trackers_and_options_are_named_with_the_near_one() -> None:
    with pytest.raises(VisionTasksError, match=r"tracker must be one of .*Did you mean bytetrack\?"):
        create_tracker("bytetrak")
    with pytest.raises(VisionTasksError, match=r"sort has no option 'max_ages'. Did you mean max_age\?"):
        create_tracker("sort", max_ages=3)
    with pytest.raises(VisionTasksError, match=r"bytetrack has no option 'inertia'.* Its options: .*buffer"):
        create_tracker("bytetrack", inertia=0.1)
    with pytest.raises(VisionTasksError, match=r"camera_motion must be one of none, flow, orb.*Did you mean flow"):
        create_tracker("sort", camera_motion="flwo")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sort", {"rate": 0}),
        ("sort", {"rate": float("nan")}),
        ("sort", {"iou": 1.5}),
        ("sort", {"iou": "0.5"}),
        ("sort", {"min_hits": 1.5}),
        ("sort", {"max_age": -1}),
        ("sort", {"per_class": "yes"}),
        ("sort", {"boxes": "box"}),
        ("bytetrack", {"high_threshold": 0.05}),
        ("bytetrack", {"new_threshold": 2}),
        ("bytetrack", {"buffer": True}),
        ("ocsort", {"delta": 0}),
        ("ocsort", {"inertia": 0.7}),
        ("ocsort", {"low_scores": 1}),
        ("ocsort", {"label_memory": 1.1}),
    ],
)
def test_values_out_of_range_are_told(name: str, options: dict[str, object]) -> None:
    word = next(iter(options)) if options != {"high_threshold": 0.05} else "threshold"
    with pytest.raises(VisionTasksError, match=word):
        create_tracker(name, **options)  # type: ignore[arg-type]


def test_the_papers_numbers_are_the_defaults() -> None:
    """SORT and OC-SORT: their code's arguments; ByteTrack: its paper and tools/track.py."""
    sort, byte, oc = (create_tracker(name) for name in ("sort", "bytetrack", "ocsort"))
    assert (sort.max_age, sort.min_hits, sort.iou, sort.low_threshold) == (1, 3, 0.3, 0.5)
    assert (byte.high_threshold, byte.low_threshold, byte.match, byte.low_match, byte.new_match, byte.buffer) == (
        0.6, 0.1, 0.8, 0.5, 0.7, 30,
    )  # fmt: skip
    assert (oc.threshold, oc.iou, oc.max_age, oc.min_hits, oc.inertia, oc.delta) == (0.6, 0.3, 30, 3, 0.2, 3)
    assert create_tracker("ocsort", low_scores=True).low_threshold == 0.1


def test_a_tracker_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(rate: float, patience: int = 3) -> Tracker:
        return create_tracker("sort", rate, max_age=patience)

    monkeypatch.setitem(TRACKERS, "mine", mine)
    assert create_tracker("mine", patience=7).longest_loss == 7
    with pytest.raises(VisionTasksError, match="mine has no option 'patient'"):
        create_tracker("mine", patient=7)
