"""Batches: every image once, groups kept, ranks together equal to one process."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_tasks.data.sampler import BatchSampler, Request, aspect_ratio_groups, form_batches
from vision_tasks.errors import VisionTasksError


def stream(sampler: BatchSampler, epochs: int) -> list[list[Request]]:
    """All batches of the first epochs, one after another."""
    batches = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        batches += list(sampler)
    return batches


def rows(batches: list[list[Request]]) -> list[int]:
    return [request.index for batch in batches for request in batch]


@settings(max_examples=100, deadline=None)
@given(n=st.integers(0, 60), batch_size=st.integers(1, 9), groups=st.integers(1, 5), seed=st.integers(0, 9))
def test_formed_batches_hold_each_image_once_and_one_group_each(n, batch_size, groups, seed):
    g = np.random.default_rng(seed)
    order, group = g.permutation(n), g.integers(0, groups, n)
    batches = form_batches(order, batch_size, group)
    assert sorted(i for b in batches for i in b.tolist()) == list(range(n))
    assert len(batches) == -(-n // batch_size)
    assert sum(len(b) < batch_size for b in batches) <= 1
    counts = Counter(group.tolist())
    mixed = sum(len(set(group[b].tolist())) > 1 for b in batches)
    left_over = sum(count % batch_size for count in counts.values())
    assert mixed <= -(-left_over // batch_size)
    assert sum(len(b) == batch_size and len(set(group[b].tolist())) == 1 for b in batches) >= sum(
        count // batch_size for count in counts.values()
    )


def test_one_group_keeps_the_order():
    order = np.array([4, 2, 0, 1, 3])
    assert [b.tolist() for b in form_batches(order, 2)] == [[4, 2], [0, 1], [3]]
    assert [b.tolist() for b in form_batches(order, 2, np.zeros(5, dtype=int))] == [[4, 2], [0, 1], [3]]


def test_groups_part_at_a_square():
    widths, heights = np.array([10, 20, 10, 0]), np.array([20, 10, 10, 0])
    assert aspect_ratio_groups(widths, heights).tolist() == [0, 1, 1, 1]


def test_more_groups_equal_torchvisions_borders():
    """Its reference bins ratios by bisect_right over 2 ** linspace(-1, 1, 2k + 1)."""
    from bisect import bisect_right

    g = np.random.default_rng(0)
    widths, heights = g.integers(100, 900, 200), g.integers(100, 900, 200)
    borders = (2 ** np.linspace(-1, 1, 7)).tolist()
    expected = [bisect_right(borders, w / h) for w, h in zip(widths, heights, strict=True)]
    assert aspect_ratio_groups(widths, heights, k=3).tolist() == expected


def test_order_and_sizes_are_a_function_of_seed_and_epoch():
    def batches(seed: int, epoch: int) -> list[list[Request]]:
        sampler = BatchSampler(50, 4, train=True, seed=seed, min_sizes=[480, 640, 800])
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batches(1, 3) == batches(1, 3)
    np.random.seed(0)  # noqa: NPY002
    assert batches(1, 3) == batches(1, 3)
    assert rows(batches(1, 3)) != rows(batches(1, 4))
    assert rows(batches(1, 3)) != rows(batches(2, 3))
    sizes = [{request.min_size for request in batch} for batch in batches(1, 3)]
    assert all(len(size) == 1 for size in sizes)
    assert set().union(*sizes) == {480, 640, 800}
    assert {request.epoch for batch in batches(1, 3) for request in batch} == {3}


@pytest.mark.parametrize("n", [37, 40, 41])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_training_ranks_together_see_what_one_process_sees(n, ranks):
    groups = np.arange(n) % 3 % 2
    common = {"train": True, "seed": 5, "groups": groups, "min_sizes": [1, 2, 3]}
    alone = stream(BatchSampler(n, 4, **common), epochs=8)
    samplers = [BatchSampler(n, 4, rank=r, world_size=ranks, **common) for r in range(ranks)]
    assert len({len(s) for s in samplers}) == 1
    together = [stream(s, epochs=7) for s in samplers]
    assert len({len(batches) for batches in together}) == 1
    dealt = [batch for step in zip(*together, strict=True) for batch in step]
    assert dealt == alone[: len(dealt)]
    first_pass = list(islice(dealt, -(-n // 4)))
    assert sorted(rows(first_pass)) == list(range(n))


@pytest.mark.parametrize("n", [0, 1, 8, 9, 13])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_evaluation_counts_each_image_once(n, ranks):
    samplers = [BatchSampler(n, 4, train=False, rank=r, world_size=ranks) for r in range(ranks)]
    dealt = [list(s) for s in samplers]
    assert [len(s) for s in samplers] == [len(batches) for batches in dealt]
    assert sorted(i for batches in dealt for i in rows(batches)) == list(range(n))
    if ranks == 1:
        assert rows(dealt[0]) == list(range(n))


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_position_is_where_the_stream_goes_on(ranks):
    def sampler() -> BatchSampler:
        return BatchSampler(41, 3, train=True, seed=2, rank=ranks - 1, world_size=ranks)

    whole = stream(sampler(), 4)
    resumed = sampler()
    for done in (0, 3, len(resumed), 2 * len(resumed) + 1):
        resumed.position = lambda done=done: done * ranks
        assert list(resumed) == whole[done : done + len(resumed)]


def test_what_cannot_work_is_refused():
    with pytest.raises(VisionTasksError, match="too few for 4 processes"):
        BatchSampler(9, 3, train=True, world_size=4)
    with pytest.raises(VisionTasksError, match="batch_size is 0"):
        BatchSampler(9, 0, train=True)
    with pytest.raises(VisionTasksError, match="0 training images"):
        BatchSampler(0, 3, train=True)
