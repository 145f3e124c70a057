"""Which track is which detection: pairs that overlap, and the best one-to-one choice among pairs.

Pairs are kept as lists, not as a matrix of all with all: of a thousand tracks and a thousand detections a few thousand
pairs overlap, out of a million.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment

_PAIRS_AT_ONCE = 2_000_000
"""Candidates looked at together: about 100 MB."""


def overlapping_pairs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of boxes that overlap.

    Args:
        first: (N, 4) float64 corners, finite, of positive width and height. second: (M, 4), likewise.

    Returns:
        Rows of `first` (P,), ascending; rows of `second` (P,); intersection over union (P,) in 0..1, above 0.
    """
    parts = [_overlaps(first, second, rows, columns) for rows, columns in _near_pairs(first, second)]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    rows, columns, overlap = (np.concatenate(column) for column in zip(*parts, strict=True))
    return rows, columns, overlap


def _near_pairs(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs that may overlap by their left and right sides, so many at once as memory likes."""
    if not len(first) or not len(second):
        return
    order = np.argsort(second[:, 0], kind="stable")
    left = second[order, 0]
    widest = (second[:, 2] - second[:, 0]).max()
    begin = np.searchsorted(left, first[:, 0] - widest)
    count = np.searchsorted(left, first[:, 2]) - begin
    done = np.cumsum(count)
    row = 0
    while row < len(first):
        past = done[row - 1] if row else 0
        end = max(row + 1, int(np.searchsorted(done, past + _PAIRS_AT_ONCE, side="right")))
        counts = count[row:end]
        rows = np.repeat(np.arange(row, end), counts)
        within = np.arange(len(rows)) - np.repeat(done[row:end] - counts - past, counts)
        yield rows, order[np.repeat(begin[row:end], counts) + within]
        row = end


def _overlaps(
    first: np.ndarray, second: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    one, other = first[rows], second[columns]
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    meet = (sides > 0).all(axis=1)
    rows, columns = rows[meet], columns[meet]
    common = sides[meet].prod(axis=1)
    union = (one[meet, 2:] - one[meet, :2]).prod(axis=1) + (other[meet, 2:] - other[meet, :2]).prod(axis=1) - common
    return rows, columns, common / union


def assign(rows: np.ndarray, columns: np.ndarray, gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The one-to-one choice among pairs with the greatest sum of gains.

    Args:
        rows, columns: (P,) int64, the pairs there are, each once. gain: (P,) float64, above 0; others are left out.

    Returns:
        Rows and columns (K,) of the chosen pairs.

    A pair whose two ends are in no other pair is chosen as it stands; only what is left is a problem of assignment, and
    much smaller than one of all rows and columns.
    """
    if not (gain > 0).all():
        rows, columns, gain = rows[gain > 0], columns[gain > 0], gain[gain > 0]
    if not len(rows):
        return rows, columns
    alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    if alone.all():
        return rows, columns
    row_names, in_row = np.unique(rows[~alone], return_inverse=True)
    column_names, in_column = np.unique(columns[~alone], return_inverse=True)
    gains = np.zeros((len(row_names), len(column_names)))
    gains[in_row, in_column] = gain[~alone]
    chosen_rows, chosen_columns = linear_sum_assignment(gains, maximize=True)
    real = gains[chosen_rows, chosen_columns] > 0
    return (
        np.concatenate((rows[alone], row_names[chosen_rows[real]])),
        np.concatenate((columns[alone], column_names[chosen_columns[real]])),
    )


def others(items: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """`items` (N,) int64 without those in `taken` (K,), in their order; all are 0 or more and each there once."""
    if not len(items):
        return items
    free = np.ones(items.max() + 1, bool)
    free[taken] = False
    left: np.ndarray = items[free[items]]
    return left
