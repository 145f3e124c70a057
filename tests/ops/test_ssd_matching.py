"""SSD's matching and hard negative mining against torchvision's, and by hand."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import SSDMatcher

from vision_tasks.ops.matching import BACKGROUND, hardest, match_each


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("truths", [1, 3, 40])
def test_equals_torchvisions_matcher(seed: int, truths: int) -> None:
    overlaps = torch.rand(truths, 60, generator=torch.Generator().manual_seed(seed)) ** 2
    assert torch.equal(match_each(overlaps, 0.5), SSDMatcher(0.5)(overlaps))


def test_every_truth_gets_its_best_box_by_hand() -> None:
    overlaps = torch.tensor(
        [
            [0.9, 0.6, 0.1, 0.0],  # best: box 0
            [0.8, 0.2, 0.3, 0.0],  # best: box 0 as well; the later truth takes it
            [0.0, 0.0, 0.2, 0.0],  # best: box 2, however little
            [0.0, 0.0, 0.0, 0.0],  # overlaps nothing
            [-1.0, -1, -1, -1],  # not to be learned
        ]
    )
    assert match_each(overlaps, 0.5).tolist() == [1, 0, 2, BACKGROUND]
    assert match_each(overlaps[:0], 0.5).tolist() == [BACKGROUND] * 4


def test_hardest_by_hand() -> None:
    losses = torch.tensor([[5.0, 1, 4, 3, 2], [1.0, 2, 3, 4, 5], [9.0, 9, 9, 9, 9]])
    allowed = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    found = hardest(losses, allowed, torch.tensor([2, 9, 0]))
    assert found.long().tolist() == [[0, 0, 1, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]


def test_hardest_counts_exactly_where_losses_are_equal() -> None:
    found = hardest(torch.zeros(2, 7), torch.ones(2, 7).bool(), torch.tensor([3, 7]))
    assert found.sum(1).tolist() == [3, 7]
