"""Counting pairs of values, whatever their type and number."""

from __future__ import annotations

import pytest
import torch

from vision_tasks.metrics.semantic_counts import pair_counts


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_any_integer_type_and_layout(dtype):
    g = torch.Generator().manual_seed(8)
    truth, predicted = (torch.randint(0, 5, (30, 40), generator=g, dtype=torch.int16) for _ in range(2))
    expected = pair_counts(truth, predicted, 5, 5)
    assert torch.equal(pair_counts(truth.T.to(dtype), predicted.to(dtype).T, 5, 5), expected)
    assert int(expected.sum()) == truth.numel()


def test_maps_larger_than_a_part():
    g = torch.Generator().manual_seed(0)
    first, second = (torch.randint(-1, 6, (700, 900), generator=g, dtype=torch.int16) for _ in range(2))
    expected = torch.zeros((7, 7), dtype=torch.int64)
    expected.index_put_((first.flatten().long() + 1, second.flatten().long() + 1), torch.tensor(1), accumulate=True)
    assert torch.equal(pair_counts(first, second, 7, 7, -1), expected)


def test_rows_and_columns_may_differ():
    g = torch.Generator().manual_seed(1)
    first, second = torch.randint(0, 3, (40, 50), generator=g), torch.randint(0, 8, (40, 50), generator=g)
    found = pair_counts(first, second, 3, 8)
    assert found.tolist() == [[int(((first == i) & (second == j)).sum()) for j in range(8)] for i in range(3)]
