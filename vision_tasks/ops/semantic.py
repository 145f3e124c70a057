"""From a network's low-resolution scores to a decision for every pixel of the original image, in bounded memory.

Sampling is bilinear between the centres of cells, as `torch.nn.functional.interpolate` does it with
`align_corners=False`; but straight from the network's grid to the original one, a band of rows at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vision_tasks.structures import Size

BAND_BYTES = 64 << 20
"""Memory a band of scores may take on a device; only the decision, 2 bytes a pixel, is kept. On a CPU a quarter of it,
which stays nearer to the caches."""

Pair = tuple[float, float]
"""(x, y)."""


@dataclass(frozen=True)
class Taps:
    """Linear interpolation along one axis: output i is (1 - weight[i]) · input[low[i]] + weight[i] · input[high[i]].

    Attributes:
        low, high: (N,) int64, `low` never falls. weight: (N,) float32 in 0..1.
        same: output i is input i, so that nothing need be computed.
    """

    low: Tensor
    high: Tensor
    weight: Tensor
    same: bool = False

    def part(self, start: int, stop: int) -> tuple[Taps, int, int]:
        """Outputs `start` to `stop` on their own, and the first and one past the last input that they read."""
        first, last = int(self.low[start]), int(self.high[stop - 1]) + 1
        return (
            Taps(self.low[start:stop] - first, self.high[start:stop] - first, self.weight[start:stop], self.same),
            first,
            last,
        )

    def mirrored(self) -> Taps:
        """The outputs in the opposite order."""
        return Taps(self.low.flip(0), self.high.flip(0), self.weight.flip(0))

    def to(self, device: torch.device) -> Taps:
        """On another device."""
        return Taps(self.low.to(device), self.high.to(device), self.weight.to(device), self.same)


def taps(length: int, scale: float, offset: float, cells: int, canvas: int) -> Taps:
    """Where the centres of `length` original pixels lie in a row of `cells` that spans `canvas` network pixels.

    Args:
        length: original pixels. scale, offset: network position = original position · scale + offset.
        cells: of the map. canvas: network pixels that they cover.

    Returns:
        Taps on the CPU. With scale 1, offset 0 and `length == canvas` exactly those of `interpolate`: its positions
        are rounded to float32 in the same places.
    """
    network = ((torch.arange(length, dtype=torch.float64) + 0.5) * scale + offset).to(torch.float32)
    position = (network * (cells / canvas) - 0.5).clamp_(0, cells - 1)
    low = position.to(torch.int64)
    weight = position - low
    same = not bool(weight.any()) and torch.equal(low, torch.arange(length))
    return Taps(low, (low + 1).clamp_(max=cells - 1), weight, same)


def sample(scores: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """(K, h, w) float scores at the crossings of `rows` and `columns`, on its device: (K, H, W) float32.

    Never to be written to: where nothing is resampled it is a view.

    Columns go first: an enlarged map has fewer rows then, and rows are copied whole.
    """
    if scores.stride(0) == 1:  # channels-last; what follows goes along the rows of a plane, and half floats copy sooner
        scores = scores.contiguous()
    wide = _blend(scores.to(torch.float32), columns, 2)
    return _blend(wide, rows, 1)


def _blend(scores: Tensor, along: Taps, dim: int) -> Tensor:
    if along.same:
        return scores.narrow(dim, 0, len(along.low))
    weight = along.weight if dim == 2 else along.weight[:, None]
    high = scores.index_select(dim, along.high).mul_(weight)
    # Fused in this order it is what `interpolate` computes on a CPU, to the bit.
    return high.addcmul_(scores.index_select(dim, along.low), 1 - weight)


@dataclass(frozen=True)
class Band:
    """Outputs `start` to `stop` and what they are made of: rows `first` to `last` of the map, blended by `rows`."""

    start: int
    stop: int
    first: int
    last: int
    rows: Taps


def bands(rows: Taps, cells: int, row_bytes: int, band_bytes: int) -> Iterator[Band]:
    """All outputs in bands from the top, so that making one takes no more than `band_bytes`, or is a single row.

    Args:
        rows: on the CPU. cells: rows of the map. row_bytes: of one row of the output, all categories.
    """
    wanted = len(rows.low)
    # A band lives with its copy at the upper and lower taps, and with the rows of the map that it reads, twice.
    count = max(1, int(band_bytes / (max(1, row_bytes) * (2 + 2 * cells / max(1, wanted)))))
    for start in range(0, wanted, count):
        stop = min(start + count, wanted)
        part, first, last = rows.part(start, stop)
        yield Band(start, stop, first, last, part)


def sample_rows(
    scores: Tensor, rows: Taps, columns: Taps, band_bytes: int | None = None
) -> Iterator[tuple[int, int, Tensor]]:
    """`sample` in bands of rows from the top: (start, stop, (K, stop - start, W) float32), each to be used at once.

    Args:
        scores: (K, h, w). rows, columns: on the CPU. band_bytes: what a band may take with all that its making needs,
            though never less than one row; None: `BAND_BYTES`.
    """
    device = scores.device
    columns = columns.to(device)
    row_bytes = 4 * scores.shape[0] * len(columns.low)
    for band in bands(rows, scores.shape[1], row_bytes, band_bytes or default_band_bytes(device)):
        yield band.start, band.stop, sample(scores[:, band.first : band.last], band.rows.to(device), columns)


def default_band_bytes(device: torch.device) -> int:
    """`BAND_BYTES`, or the quarter of it that suits a CPU."""
    return BAND_BYTES // 4 if device.type == "cpu" else BAND_BYTES


def decide(
    logits: Tensor,
    size: Size,
    scale: Pair,
    offset: Pair,
    canvas: Size,
    multi_label: bool = False,
    threshold: float = 0.5,
    band_bytes: int | None = None,
) -> Tensor:
    """The category of every original pixel, from the scores at its centre.

    Args:
        logits: (K, h, w) of one image, of any stride: its cells cover the canvas evenly. Probabilities do as well for
            the best category.
        size: (height, width) of the original image.
        scale, offset: (x, y) each; network pixels = original pixels · scale + offset.
        canvas: (height, width) in network pixels.
        multi_label: decide each category on its own.
        threshold: probability above which a category is there; for `multi_label`.
        band_bytes: memory for scores at full size; None: `BAND_BYTES`.

    Returns:
        (H, W) int16 labels, the first of equals; or (K, H, W) bool. On the device of the logits. Equal to
        `interpolate` and `argmax` where scale is 1 and offset 0.

    Raises:
        ValueError: no category, or more than int16 counts.
    """
    if not 1 <= len(logits) <= 1 << 15:
        raise ValueError(f"decide: a map needs 1 to 32768 categories, not {len(logits)}")
    rows = taps(size[0], scale[1], offset[1], logits.shape[1], canvas[0])
    columns = taps(size[1], scale[0], offset[0], logits.shape[2], canvas[1])
    decided = undecided(len(logits), size, multi_label, logits.device)
    for start, _, band in sample_rows(logits, rows, columns, band_bytes):
        decide_rows(decided, start, band, multi_label, logit(threshold))
    return decided


def undecided(categories: int, size: Size, multi_label: bool, device: torch.device) -> Tensor:
    """Room for a map: (H, W) int16, or (K, H, W) bool."""
    if multi_label:
        return torch.empty((categories, *size), dtype=torch.bool, device=device)
    return torch.empty(size, dtype=torch.int16, device=device)


def decide_rows(decided: Tensor, start: int, scores: Tensor, multi_label: bool, limit: float) -> None:
    """Fill rows of a map from `start` on with what (K, n, W) scores say; `limit` is a score, for `multi_label`."""
    rows = slice(start, start + scores.shape[1])
    if multi_label:
        decided[:, rows] = scores > limit
    elif scores.device.type == "cpu":
        _first_best(scores, out=decided[rows])
    else:
        # `max` runs along the rows of a plane; `argmax` gathers pixel by pixel, and is three times as slow.
        decided[rows] = scores.max(dim=0).indices


def _first_best(scores: Tensor, out: Tensor) -> None:
    """Of (K, n, W) scores the first best category of every pixel, into (n, W) int16.

    On a CPU `max` and `argmax` that say where it is take four times as long as `amax`, which uses vector instructions;
    so do comparisons that give floats.
    """
    best, count = scores.amax(dim=0), len(scores)
    code, reached = torch.zeros_like(best), torch.empty_like(best)
    for label in range(count):
        # The first of equals has the largest code.
        torch.eq(scores[label], best, out=reached)
        torch.maximum(code, reached.mul_(count - label), out=code)
    out.copy_(code.neg_().add_(count).clamp_(max=count - 1))  # NaN reaches nothing


def logit(probability: float) -> float:
    """What a sigmoid turns into this probability; ±inf for 0 and 1."""
    if not 0 < probability < 1:
        return -math.inf if probability <= 0 else math.inf
    return math.log(probability / (1 - probability))
