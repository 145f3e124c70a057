"""Filters of many boxes, against the textbook's matrices and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from vision_tasks.inference.tracking.kalman import CHI2_95, PLACE, VELOCITY, AreaFilter, BoxFilter, HeightFilter


class Dense:
    """One box by x = F x, P = F P F' + Q, K = P H' S^-1, as every textbook has it; places first, then velocities."""

    def __init__(self, kind: str, box: np.ndarray) -> None:
        self.kind = kind
        self.x = np.concatenate((self.measured(box), np.zeros(4)))
        if kind == "area":  # SORT's own constants (its sort.py), the velocity of the ratio kept at zero
            self.p = np.diag([10.0, 10, 10, 10, 1e4, 1e4, 1e4, 0])
        else:  # DeepSORT's and ByteTrack's (their kalman_filter.py)
            h = self.x[3]
            self.p = np.diag(np.array([h / 10, h / 10, 1e-2, h / 10, h / 16, h / 16, 1e-5, h / 16]) ** 2)

    def measured(self, box: np.ndarray) -> np.ndarray:
        w, h = box[2] - box[0], box[3] - box[1]
        centre = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
        return np.array([*centre, w * h, w / h] if self.kind == "area" else [*centre, w / h, h])

    def predict(self) -> None:
        h = self.x[3]
        q = np.array([1, 1, 1, 1, 1e-2, 1e-2, 1e-4, 0])
        if self.kind == "height":
            q = np.array([h / 20, h / 20, 1e-2, h / 20, h / 160, h / 160, 1e-5, h / 160]) ** 2
        f = np.eye(8) + np.eye(8, k=4)
        self.x, self.p = f @ self.x, f @ self.p @ f.T + np.diag(q)

    def update(self, box: np.ndarray) -> None:
        h = self.x[3]
        r = np.array([1.0, 1, 10, 10] if self.kind == "area" else [h / 20, h / 20, 1e-1, h / 20])
        r = r if self.kind == "area" else r**2
        look = np.eye(4, 8)
        gain = self.p @ look.T @ np.linalg.inv(look @ self.p @ look.T + np.diag(r))
        rest = np.eye(8) - gain @ look
        self.x = self.x + gain @ (self.measured(box) - look @ self.x)
        self.p = rest @ self.p @ rest.T + gain @ np.diag(r) @ gain.T


FILTERS = {"area": AreaFilter(), "height": HeightFilter()}


def _boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    low = generator.uniform(0, 1000, (count, 2))
    return np.concatenate((low, low + generator.uniform(100, 300, (count, 2))), axis=1)


@pytest.mark.parametrize("kind", ["area", "height"])
def test_all_boxes_at_once_equal_one_by_one_with_matrices(kind: str) -> None:
    generator, motion = np.random.default_rng(0), FILTERS[kind]
    boxes = _boxes(generator, 6)
    state, dense = motion.start(boxes), [Dense(kind, box) for box in boxes]
    for step in range(30):
        state = motion.predict(state)
        for one in dense:
            one.predict()
        boxes = boxes + generator.normal(0, 1, boxes.shape)
        if step % 4 != 3:  # every fourth picture nobody is seen
            state = motion.update(state, boxes)
            for one, box in zip(dense, boxes, strict=True):
                one.update(box)
        np.testing.assert_allclose(state[:, PLACE], [one.x[:4] for one in dense], rtol=1e-9)
        np.testing.assert_allclose(state[:, VELOCITY], [one.x[4:] for one in dense], rtol=1e-7, atol=1e-9)
        for row, part in enumerate(((0, 0), (0, 4), (4, 4))):
            there = [np.diagonal(one.p[part[0] : part[0] + 4, part[1] : part[1] + 4]) for one in dense]
            np.testing.assert_allclose(state[:, 2 + row], there, rtol=1e-7, atol=1e-12)
        # The claim on which the form of the state rests: nothing else is ever anything but zero.
        for one in dense:
            blocks = np.abs(one.p.reshape(2, 4, 2, 4)) * (1 - np.eye(4))[None, :, None, :]
            assert blocks.max() <= 1e-9 * np.abs(one.p).max()


def test_the_first_step_of_sort_by_hand() -> None:
    """Start 10 and 10000; a frame later 10 + 10000 + 1; then a measurement of variance 1, 8 pixels to the right."""
    state = FILTERS["area"].predict(FILTERS["area"].start(np.array([[0.0, 0, 10, 20]])))
    assert state[0, :, 0] == pytest.approx([5, 0, 10011, 10000, 10000.01])
    state = FILTERS["area"].update(state, np.array([[8.0, 0, 18, 20]]))
    assert state[0, 0, 0] == pytest.approx(5 + 8 * 10011 / 10012)
    assert state[0, 1, 0] == pytest.approx(8 * 10000 / 10012)
    assert state[0, 2, 0] == pytest.approx(10011 / 10012)
    assert state[0, 4, 0] == pytest.approx(10000.01 - 10000**2 / 10012)


@pytest.mark.parametrize("motion", FILTERS.values(), ids=FILTERS)
def test_corners_and_coordinates_are_each_others_inverse(motion: BoxFilter) -> None:
    boxes = _boxes(np.random.default_rng(1), 50)
    np.testing.assert_allclose(motion.boxes(motion.start(boxes)), boxes, rtol=1e-12)


def _moving(motion: BoxFilter) -> np.ndarray:
    generator = np.random.default_rng(2)
    boxes = _boxes(generator, 5)
    state = motion.start(boxes)
    for _ in range(4):
        boxes = boxes + 3
        state = motion.update(motion.predict(state), boxes)
    return state


def test_three_frames_at_once_are_three_predictions() -> None:
    motion = FILTERS["area"]
    state = _moving(motion)
    one_by_one = motion.predict(motion.predict(motion.predict(state)))
    np.testing.assert_allclose(motion.predict(state, 3), one_by_one, rtol=1e-12)
    np.testing.assert_allclose(motion.predict(motion.predict(state, 0.4), 2.6), one_by_one, rtol=1e-12)
    each = motion.predict(state, np.array([[1.0], [2], [3], [0.5], [1]]))
    np.testing.assert_allclose(each[2], one_by_one[2], rtol=1e-12)
    np.testing.assert_allclose(each[0], motion.predict(state)[0], rtol=1e-12)


@pytest.mark.parametrize("motion", FILTERS.values(), ids=FILTERS)
def test_what_shrinks_never_vanishes(motion: BoxFilter) -> None:
    state = motion.start(np.array([[100.0, 100, 200, 300]]))
    for side in (60, 30, 10):
        state = motion.update(motion.predict(state), np.array([[100.0, 100, 100 + side, 100 + 2 * side]]))
    for step in (1, 10, 0.3, 1000):
        state = motion.predict(state, step)
        boxes = motion.boxes(state)
        assert np.isfinite(boxes).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


@pytest.mark.parametrize("motion", FILTERS.values(), ids=FILTERS)
def test_variances_stay_those_of_something_possible(motion: BoxFilter) -> None:
    state = _moving(motion)
    for step in (0.01, 0.5, 0.9, 3.7, 50):
        state = motion.predict(state, step)
        assert (state[:, 2] > 0).all()
        assert (state[:, 2] * state[:, 4] >= state[:, 3] ** 2 * (1 - 1e-9)).all()


@pytest.mark.parametrize("motion", FILTERS.values(), ids=FILTERS)
def test_a_camera_that_turns_and_zooms_moves_boxes_with_it(motion: BoxFilter) -> None:
    angle, zoom = 0.1, 1.3
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    warp = np.column_stack((turn, [7.0, -3.0]))
    state = _moving(motion)
    after = motion.warp(state, warp)
    centres = state[:, PLACE, :2] @ turn.T + [7, -3]
    np.testing.assert_allclose(after[:, PLACE, :2], centres)
    size, size_after = (np.diff(motion.boxes(s).reshape(-1, 2, 2), axis=1)[:, 0] for s in (state, after))
    np.testing.assert_allclose(size_after, zoom * size)
    np.testing.assert_allclose(after[:, VELOCITY, :2], state[:, VELOCITY, :2] @ turn.T)
    for row in (2, 3, 4):  # turned as a matrix: the same on the diagonal, nothing beside it
        matrix = np.stack([turn @ np.diag(pair) @ turn.T for pair in state[:, row, :2]])
        np.testing.assert_allclose(after[:, row, :2], np.diagonal(matrix, axis1=1, axis2=2))
        np.testing.assert_allclose(matrix[:, 0, 1], 0, atol=1e-9)


def test_distance_counts_standard_deviations() -> None:
    motion = FILTERS["height"]
    state = motion.start(np.array([[0.0, 0, 50, 100]]))
    variance = (100 / 10) ** 2 + (100 / 20) ** 2
    moved = np.array([[30.0, 0, 80, 100]])
    assert motion.distance(state, moved)[0] == pytest.approx(30**2 / variance)
    assert pytest.approx(chi2.ppf(0.95, 4)) == CHI2_95
