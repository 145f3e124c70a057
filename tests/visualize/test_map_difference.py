"""Two maps of one image: what became of each pixel and category, by hand and by plain counts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_tasks.structures import Categories
from vision_tasks.visualize.semantic_comparison import (
    IGNORED,
    MADE_UP,
    MISSED,
    RIGHT,
    compared_entries,
    difference,
)

NAMES = Categories.of(["sky", "$road", "树", "tree"])


def test_difference_by_hand():
    truth = torch.tensor([[0, 0, 1, -1], [1, 1, 2, -1]], dtype=torch.int16)
    found = torch.tensor([[0, 1, 1, 0], [1, 1, 3, 3]], dtype=torch.int16)
    got = difference(truth, found, 4)
    wrong, right, out = MADE_UP, RIGHT, IGNORED
    assert got.verdict.tolist() == [[right, wrong, right, out], [right, right, wrong, out]]
    assert got.counts == (2, 4, 0, 2)
    assert got.truth.tolist() == [2, 3, 1, 0]
    assert got.shared.tolist() == [1, 3, 0, 0]
    assert got.either.tolist() == [2, 4, 1, 1]
    assert got.mean_iou == pytest.approx((1 / 2 + 3 / 4) / 4)
    assert difference(truth * 0 - 1, found, 4).mean_iou is None
    entries = compared_entries(got, NAMES)
    assert [(e.name, e.value) for e in entries] == [
        ("$road", "37.5 % · IoU 0.75"),
        ("sky", "25.0 % · IoU 0.50"),
        ("树", "12.5 % · IoU 0.00"),
        ("tree", "– · IoU 0.00"),
    ]


def test_difference_of_layers_by_hand():
    truth = torch.tensor([[[1, 1, 0, 0, -1, 1]], [[0, 1, 0, 0, -1, -1]]], dtype=torch.int8)
    found = torch.tensor([[[1, 0, 0, 1, 1, 1]], [[0, 1, 0, 0, 1, 1]]], dtype=torch.bool)
    got = difference(truth, found, 2)
    assert got.verdict.tolist() == [[RIGHT, MISSED, RIGHT, MADE_UP, IGNORED, RIGHT]]
    assert (got.truth.tolist(), got.shared.tolist(), got.either.tolist()) == ([3, 1], [2, 1], [4, 1])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(2, 260))
def test_difference_is_the_plain_count(height, width, count):
    rng = np.random.default_rng(width)
    truth, found = rng.integers(-1, count, (height, width)), rng.integers(0, count, (height, width))
    got = difference(torch.from_numpy(truth), torch.from_numpy(found), count)
    known = truth >= 0
    for k in rng.choice(count, min(count, 20), replace=False):
        t, f = (truth == k) & known, (found == k) & known
        assert (got.truth[k], got.shared[k], got.either[k]) == (t.sum(), (t & f).sum(), (t | f).sum())
    assert got.counts == ((~known).sum(), ((truth == found) & known).sum(), 0, ((truth != found) & known).sum())
