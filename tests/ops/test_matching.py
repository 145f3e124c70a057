"""Matching against torchvision's Matcher; the sampler against what chance must give."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import Matcher

from vision_tasks.ops.matching import BACKGROUND, IGNORED, match, sample_balanced


@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize(("foreground", "background"), [(0.7, 0.3), (0.5, 0.5), (0.95, 0.9)])
@pytest.mark.parametrize("coarse", [False, True])
def test_equals_torchvision(low_quality: bool, foreground: float, background: float, coarse: bool) -> None:
    overlaps = torch.rand(9, 400, generator=torch.Generator().manual_seed(0))
    if coarse:  # many ties, many values on a threshold; no truth without any overlap, where torchvision differs
        overlaps = (overlaps * 20).round() / 20
    expected = Matcher(foreground, background, low_quality)(overlaps)
    assert torch.equal(match(overlaps, foreground, background, low_quality), expected)


def test_thresholds_by_hand() -> None:
    overlaps = torch.tensor([[0.7, 0.69, 0.3, 0.29, 0.0], [0.1, 0.2, 0.1, 0.1, 0.0]])
    assert match(overlaps, 0.7, 0.3).tolist() == [0, IGNORED, IGNORED, BACKGROUND, BACKGROUND]


def test_low_quality_match_keeps_the_box_with_its_own_best() -> None:
    # Truth 1's best box is box 0, which overlaps truth 0 more: it stays with truth 0, as in torchvision.
    overlaps = torch.tensor([[0.6, 0.1, 0.0], [0.4, 0.2, 0.0]])
    assert match(overlaps, 0.7, 0.3, low_quality=True).tolist() == [0, BACKGROUND, BACKGROUND]
    assert match(overlaps, 0.7, 0.3).tolist() == [IGNORED, BACKGROUND, BACKGROUND]


def test_a_truth_that_overlaps_nothing_matches_nothing() -> None:
    overlaps = torch.tensor([[0.0, 0.0, 0.0], [0.8, 0.0, 0.1]])
    assert match(overlaps, 0.7, 0.3, low_quality=True).tolist() == [1, BACKGROUND, BACKGROUND]
    assert match(torch.full((1, 3), -1.0), 0.7, 0.3, low_quality=True).tolist() == [BACKGROUND] * 3


@pytest.mark.parametrize("low_quality", [False, True])
def test_nothing_to_match(low_quality: bool) -> None:
    assert match(torch.zeros(0, 4), 0.7, 0.3, low_quality).tolist() == [BACKGROUND] * 4
    assert match(torch.zeros(3, 0), 0.7, 0.3, low_quality).shape == (0,)
    assert match(torch.zeros(0, 0), 0.7, 0.3, low_quality).dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_overlaps(dtype: torch.dtype) -> None:
    overlaps = torch.tensor([[0.9, 0.5, 0.1]], dtype=dtype)
    assert match(overlaps, 0.7, 0.3).tolist() == [0, IGNORED, BACKGROUND]


def draw(matches: Tensor, count: int, fraction: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Drawn positives and negatives, after checking what every draw must hold."""
    generator = torch.Generator().manual_seed(seed)
    index, valid = sample_balanced(matches, count, fraction, generator)
    assert index.shape == valid.shape
    chosen = index[valid]
    assert len(set(chosen.tolist())) == len(chosen), "drawn twice"
    assert (matches[chosen] != IGNORED).all()
    positive = matches[chosen] >= 0
    assert torch.equal(positive, positive.sort(descending=True).values), "positives come first"
    return chosen[positive], chosen[~positive]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([IGNORED, BACKGROUND, 0, 1, 7]), max_size=60),
    st.integers(0, 40),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_counts_are_torchvisions(rows: list[int], count: int, fraction: float) -> None:
    matches = torch.tensor(rows, dtype=torch.int64)
    positive, negative = draw(matches, count, fraction)
    # The rule of torchvision's sampler: positives up to their quota, negatives fill up.
    assert len(positive) == min(int((matches >= 0).sum()), int(count * fraction))
    assert len(negative) == min(int((matches == BACKGROUND).sum()), count - len(positive))


def test_fraction_and_short_supply() -> None:
    many = torch.tensor([0] * 500 + [BACKGROUND] * 500)
    assert [len(p) for p in draw(many, 256, 0.5)] == [128, 128]
    few_positive = torch.tensor([0] * 3 + [BACKGROUND] * 500)
    assert [len(p) for p in draw(few_positive, 256, 0.5)] == [3, 253]
    few_negative = torch.tensor([0] * 500 + [BACKGROUND] * 3)
    assert [len(p) for p in draw(few_negative, 256, 0.5)] == [128, 3]
    assert [len(p) for p in draw(torch.full((9,), BACKGROUND), 256, 0.5)] == [0, 9]
    assert [len(p) for p in draw(torch.full((9,), IGNORED), 256, 0.5)] == [0, 0]
    assert [len(p) for p in draw(torch.zeros(0, dtype=torch.int64), 256, 0.5)] == [0, 0]


def test_the_draw_is_uniform_and_follows_the_generator() -> None:
    matches = torch.tensor([2] * 20 + [BACKGROUND] * 40 + [IGNORED] * 10)
    counts = torch.zeros(70)
    rounds = 2000
    generator = torch.Generator().manual_seed(5)
    for _ in range(rounds):
        index, valid = sample_balanced(matches, 20, 0.5, generator)
        counts[index[valid]] += 1
    # Ten of 20 positives and ten of 40 negatives each time; five standard deviations of a binomial.
    for part, chance in ((counts[:20], 0.5), (counts[20:60], 0.25)):
        spread = (rounds * chance * (1 - chance)) ** 0.5
        assert (part - rounds * chance).abs().max() < 5 * spread
    assert counts[60:].sum() == 0
    assert torch.equal(draw(matches, 20, 0.5, seed=1)[0], draw(matches, 20, 0.5, seed=1)[0])
    assert not torch.equal(draw(matches, 20, 0.5, seed=1)[0], draw(matches, 20, 0.5, seed=2)[0])
