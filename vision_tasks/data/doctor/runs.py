"""Areas and extents of many run-length masks at once, from their compressed counts."""

from __future__ import annotations

import numpy as np

_LETTERS = 1 << 21


def measure_runs(
    words: np.ndarray, starts: np.ndarray, places: np.ndarray, area: np.ndarray, extent: np.ndarray
) -> None:
    """Fills `area` (N,) and `extent` (N, 4) at `places` ((R,) indices of run-length outlines).

    Args:
        words: the outlines as little-endian int32. starts: (N,) byte offsets of the outlines.
    """
    if not len(places):
        return
    lengths = words[(starts[places] >> 2) + 3].astype(np.int64)
    total = np.cumsum(lengths)
    for part in np.split(places, np.searchsorted(total, np.arange(_LETTERS, int(total[-1]), _LETTERS))):
        if len(part):
            area[part], extent[part] = _measured(words, starts[part] >> 2)


def _measured(words: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R,) pixels and (R, 4) left, top, right, bottom; NaN extents of masks without a pixel."""
    heights, lengths = words[at + 1].astype(np.int64), words[at + 3].astype(np.int64)
    begin = np.cumsum(lengths) - lengths
    index = np.repeat(4 * (at + 4) - begin, lengths) + np.arange(int(lengths.sum()))
    letters = words.view(np.uint8)[index].astype(np.int64) - 48
    runs, mask = _decompressed(letters, np.repeat(np.arange(len(at)), lengths))
    count = np.bincount(mask, minlength=len(at))
    place = np.arange(len(runs)) - np.repeat(np.cumsum(count) - count, count)
    ends = np.cumsum(runs)
    ends -= np.repeat((ends - runs)[np.cumsum(count) - count], count)
    ones = (place % 2 == 1) & (runs > 0)
    mask, runs, ends = mask[ones], runs[ones], ends[ones]
    area = np.bincount(mask, weights=runs, minlength=len(at))
    height = heights[mask]
    left, top = np.divmod(ends - runs, height)
    right, bottom = np.divmod(ends - 1, height)
    spans = right > left  # over the end of a column: from its top to its bottom
    top, bottom = np.where(spans, 0, top), np.where(spans, height - 1, bottom)
    extent = np.full((len(at), 4), np.nan)
    if len(mask):
        first = np.flatnonzero(np.concatenate([[True], mask[1:] != mask[:-1]]))
        own = mask[first]
        extent[own, 0], extent[own, 1] = np.minimum.reduceat(left, first), np.minimum.reduceat(top, first)
        extent[own, 2] = np.maximum.reduceat(right, first) + 1
        extent[own, 3] = np.maximum.reduceat(bottom, first) + 1
    return area, extent


def _decompressed(letters: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Run lengths of many masks and the mask of each; see `ops.run_lengths.decompress`, which takes one.

    Args:
        letters: (L,) int64, 0..63, valid. mask: (L,) int64, of which mask each letter is, ascending.
    """
    last = (letters & 32) == 0
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(letters)) - np.repeat(starts, np.diff(np.append(starts, len(letters))))
    values = np.add.reduceat((letters & 31) << (5 * place), starts)
    values -= np.where(letters[last] & 16, np.int64(1) << (5 * (place[last] + 1)), 0)
    owner = mask[last]
    # From the fourth run on, a number is the difference to the run before the last: a sum over every second run of
    # each mask but for its first, which stands alone.
    count = np.bincount(owner)
    count = count[count > 0]
    begin = np.cumsum(count) - count
    inner = np.arange(len(values)) - np.repeat(begin, count)
    for parity in (1, 0):
        chosen = np.flatnonzero((inner % 2 == parity) & (inner > 0))
        if not len(chosen):
            continue
        sums = np.cumsum(values[chosen])
        new = np.flatnonzero(np.concatenate([[True], owner[chosen][1:] != owner[chosen][:-1]]))
        before = np.concatenate([[0], sums[new[1:] - 1]])
        values[chosen] = sums - np.repeat(before, np.diff(np.append(new, len(chosen))))
    return values, owner
