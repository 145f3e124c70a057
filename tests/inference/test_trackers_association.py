"""Pairs of boxes and the choice among them, against all permutations and torchvision."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from vision_tasks.inference.tracking import association
from vision_tasks.inference.tracking.association import assign, others, overlapping_pairs


def _boxes(generator: np.random.Generator, count: int, side: float = 60) -> np.ndarray:
    low = generator.uniform(0, 200, (count, 2))
    return np.concatenate((low, low + generator.uniform(5, side, (count, 2))), axis=1)


@pytest.mark.parametrize("at_once", [2_000_000, 7])
def test_pairs_are_those_of_the_full_matrix(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(association, "_PAIRS_AT_ONCE", at_once)
    generator = np.random.default_rng(3)
    for n, m in ((40, 30), (1, 1), (1, 9), (9, 1), (0, 4), (4, 0)):
        first, second = _boxes(generator, n), _boxes(generator, m, 150)
        matrix = box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy().reshape(n, m)
        rows, columns, overlap = overlapping_pairs(first, second)
        assert (np.diff(rows) >= 0).all()
        found = np.zeros((n, m))
        found[rows, columns] = overlap
        np.testing.assert_allclose(found, matrix, rtol=1e-12)
        assert len(rows) == (matrix > 0).sum()


def test_boxes_that_only_touch_are_no_pair() -> None:
    touching = overlapping_pairs(np.array([[0.0, 0, 10, 10]]), np.array([[10.0, 0, 20, 10], [0, 10, 10, 20]]))
    assert len(touching[0]) == 0


def _best(gains: np.ndarray) -> float:
    """By trying all: each row takes a column of its own or none."""
    rows, columns = gains.shape
    wide = np.concatenate((gains, np.zeros((rows, rows))), axis=1)
    return max(sum(wide[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(columns + rows), rows))


def test_the_choice_is_the_best_of_all_permutations() -> None:
    generator = np.random.default_rng(4)
    for _ in range(60):
        shape = generator.integers(1, 4, 2)
        gains = generator.uniform(0, 1, shape) * (generator.uniform(0, 1, shape) < 0.6)
        rows, columns = gains.nonzero()
        chosen = assign(rows, columns, gains[rows, columns])
        assert len(set(chosen[0])) == len(chosen[0])
        assert len(set(chosen[1])) == len(chosen[1])
        assert gains[chosen].sum() == pytest.approx(_best(gains))
        assert (gains[chosen] > 0).all()


def test_two_good_pairs_rather_than_the_best_one() -> None:
    """Track 0 overlaps detection 0 by 0.8 and 1 by 0.7; track 1 only detection 0, by 0.6: 0.7 + 0.6 > 0.8."""
    rows, columns = assign(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0.8, 0.7, 0.6]))
    assert dict(zip(rows.tolist(), columns.tolist(), strict=True)) == {0: 1, 1: 0}


def test_pairs_that_gain_nothing_are_not_chosen() -> None:
    rows, columns = assign(np.array([0, 1]), np.array([0, 1]), np.array([0.5, 0.0]))
    assert (rows.tolist(), columns.tolist()) == ([0], [0])
    assert len(assign(np.empty(0, int), np.empty(0, int), np.empty(0))[0]) == 0


def test_others_keep_their_order() -> None:
    assert others(np.array([5, 2, 9]), np.array([2])).tolist() == [5, 9]
    assert others(np.array([], int), np.array([], int)).tolist() == []
