"""Decisions at full size from scores at low size, against `interpolate` and a slow computation by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vision_tasks.ops.semantic import decide, logit, sample, sample_rows, taps

Size = tuple[int, int]


def scores(classes: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn((classes, height, width), generator=torch.Generator().manual_seed(seed))


def resized(maps: Tensor, size: Size) -> Tensor:
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ((16, 16), (64, 64)), ((33, 61), (257, 487)), ((100, 101), (799, 803)), ((50, 50), (37, 41)),
        ((7, 200), (7, 1601)), ((1, 1), (9, 5)), ((3, 1), (1, 1)), ((5, 5), (5, 5)), ((40, 3), (11, 300)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("classes", [1, 2, 19])
def test_scale_one_equals_interpolate(low: Size, high: Size, classes: int) -> None:
    maps = scores(classes, *low)
    expected = resized(maps, high)
    rows, columns = taps(high[0], 1, 0, low[0], high[0]), taps(high[1], 1, 0, low[1], high[1])
    torch.testing.assert_close(sample(maps, rows, columns), expected, rtol=0, atol=2e-6)
    decided = decide(maps, high, (1, 1), (0, 0), high)
    assert decided.dtype == torch.int16
    assert torch.equal(decided, expected.argmax(0).to(torch.int16))
    several = decide(maps, high, (1, 1), (0, 0), high, multi_label=True)
    assert several.dtype == torch.bool
    assert torch.equal(several, expected > 0)


@pytest.mark.parametrize("band_bytes", [1, 1000, 30_000, 1 << 20, None])
def test_bands_change_nothing(band_bytes: int | None) -> None:
    maps = scores(5, 23, 31)
    whole = decide(maps, (181, 77), (0.7, 0.31), (3, 2), (92, 124), band_bytes=1 << 30)
    assert torch.equal(decide(maps, (181, 77), (0.7, 0.31), (3, 2), (92, 124), band_bytes=band_bytes), whole)


@pytest.mark.parametrize("maps", [(19, 64, 128), (19, 700, 40), (2, 5, 5)])
def test_bands_stay_within_their_memory(maps: tuple[int, int, int]) -> None:
    low, size, allowed = scores(*maps), (512, 300), 2 << 20
    rows, columns = taps(size[0], 1, 0, maps[1], size[0]), taps(size[1], 1, 0, maps[2], size[1])
    before, covered = 0, 0
    for start, stop, band in sample_rows(low, rows, columns, allowed):
        assert start == before
        part, first, last = rows.part(start, stop)
        rows_made = 2 * (stop - start) + 2 * (last - first)
        one_row = 4 * maps[0] * size[1]
        assert rows_made * one_row <= allowed + 6 * one_row
        assert len(part.low) == stop - start
        before, covered = stop, covered + band.shape[1]
    assert covered == size[0]


def by_hand(maps: Tensor, size: Size, scale: tuple[float, float], offset: tuple[float, float], canvas: Size) -> Tensor:
    """(K, H, W), one pixel after another."""
    out = torch.zeros((len(maps), *size))
    for i in range(size[0]):
        for j in range(size[1]):
            y = ((i + 0.5) * scale[1] + offset[1]) * maps.shape[1] / canvas[0] - 0.5
            x = ((j + 0.5) * scale[0] + offset[0]) * maps.shape[2] / canvas[1] - 0.5
            y, x = min(max(y, 0), maps.shape[1] - 1), min(max(x, 0), maps.shape[2] - 1)
            top, left = math.floor(y), math.floor(x)
            below, right = min(top + 1, maps.shape[1] - 1), min(left + 1, maps.shape[2] - 1)
            v, u = y - top, x - left
            out[:, i, j] = (1 - v) * ((1 - u) * maps[:, top, left] + u * maps[:, top, right]) + v * (
                (1 - u) * maps[:, below, left] + u * maps[:, below, right]
            )
    return out


@pytest.mark.parametrize(
    ("size", "scale", "offset", "canvas"),
    [
        ((40, 50), (1.6, 1.5), (0, 0), (64, 96)),  # resized and padded at the right and below
        ((30, 20), (0.9, 2.1), (7, 5), (80, 64)),  # letterboxed, in the middle
        ((9, 11), (4.3, 3.9), (-3, 2), (64, 64)),  # far smaller; partly outside
    ],
)
def test_any_scale_and_offset(
    size: Size, scale: tuple[float, float], offset: tuple[float, float], canvas: Size
) -> None:
    maps = scores(4, 16, 17, seed=3)
    expected = by_hand(maps, size, scale, offset, canvas)
    rows = taps(size[0], scale[1], offset[1], 16, canvas[0])
    columns = taps(size[1], scale[0], offset[0], 17, canvas[1])
    torch.testing.assert_close(sample(maps, rows, columns), expected, rtol=0, atol=1e-5)
    assert torch.equal(decide(maps, size, scale, offset, canvas), expected.argmax(0).to(torch.int16))
    there = decide(maps, size, scale, offset, canvas, multi_label=True, threshold=0.7)
    assert torch.equal(there, expected.sigmoid() > 0.7)


def test_a_padded_canvas_is_cut_off() -> None:
    maps = scores(6, 24, 40)
    cut = resized(maps, (96, 160))[:, :83, :151]
    assert torch.equal(decide(maps, (83, 151), (1, 1), (0, 0), (96, 160)), cut.argmax(0).to(torch.int16))


def test_a_thousand_categories_and_the_last_of_them() -> None:
    maps = scores(1000, 8, 9)
    maps[999, 4:, :4] = 9
    decided = decide(maps, (32, 36), (1, 1), (0, 0), (32, 36), band_bytes=1 << 20)
    assert torch.equal(decided, resized(maps, (32, 36)).argmax(0).to(torch.int16))
    assert int(decided[31, 0]) == 999


def test_the_first_of_equals() -> None:
    assert decide(torch.ones(7, 3, 3), (12, 12), (1, 1), (0, 0), (12, 12)).max() == 0


def test_half_precision_is_computed_in_single() -> None:
    maps = scores(8, 20, 20).to(torch.bfloat16)
    expected = resized(maps.float(), (77, 81)).argmax(0).to(torch.int16)
    assert torch.equal(decide(maps, (77, 81), (1, 1), (0, 0), (77, 81)), expected)


def test_thresholds_at_the_ends() -> None:
    maps = scores(2, 4, 4)
    whole = ((8, 8), (1.0, 1.0), (0.0, 0.0), (8, 8))
    assert decide(maps, *whole, multi_label=True, threshold=0).all()
    assert not decide(maps, *whole, multi_label=True, threshold=1).any()
    assert logit(0.5) == 0
    assert math.isclose(torch.tensor(logit(0.9)).sigmoid().item(), 0.9, abs_tol=1e-6)


@pytest.mark.parametrize("count", [0, 40_000])
def test_what_cannot_be_a_map(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 32768 categories"):
        decide(torch.zeros(count, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1))
