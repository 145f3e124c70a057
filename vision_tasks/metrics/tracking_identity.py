"""Identity measures: how much of every object's way one track kept to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vision_tasks.metrics.tracking_frames import TrackFrames


@dataclass(frozen=True)
class IdentityCounts:
    """Counts of one sequence, or their sums over several (Ristani et al. 2016).

    Attributes:
        right: boxes in which an object and the one track that it was given for the whole sequence overlap by 0.5.
        wrong: all other boxes of tracks. missed: all other boxes of truth.
    """

    right: int = 0
    wrong: int = 0
    missed: int = 0

    @property
    def numbers(self) -> dict[str, float]:
        """IDF1, IDP, IDR in 0..1, and their counts."""
        truth, found = self.right + self.missed, self.right + self.wrong
        return {
            "IDF1": self.right / max(1.0, 0.5 * (truth + found)),
            "IDP": self.right / max(1, found),
            "IDR": self.right / max(1, truth),
            "IDTP": self.right,
            "IDFP": self.wrong,
            "IDFN": self.missed,
        }


def identity_counts(frames: TrackFrames, threshold: float = 0.5) -> IdentityCounts:
    """Give every object at most one track, every track at most one object, so that most boxes are right.

    To minimise the boxes that are wrong or missed is to maximise those that are right. Objects and tracks that never
    meet need no common assignment: it is solved for each connected group alone, which keeps long sequences small.

    Args:
        frames: one sequence. threshold: IoU from which on boxes may be the same object.
    """
    shape = (frames.truths, frames.tracks)
    pairs = [np.zeros(0, np.int64)]
    for truths, tracks, similarity in frames:
        rows, columns = np.nonzero(similarity >= threshold)
        pairs.append(truths[rows] * shape[1] + tracks[columns])
    keys, counts = np.unique(np.concatenate(pairs), return_counts=True)
    right = _best_sum(keys // max(1, shape[1]), keys % max(1, shape[1]), counts, shape)
    return IdentityCounts(right, len(frames.found_ids) - right, len(frames.truth_ids) - right)


def _best_sum(
    rows: NDArray[np.int64], columns: NDArray[np.int64], worth: NDArray[np.int64], shape: tuple[int, int]
) -> int:
    """The greatest sum of entries of a sparse table with at most one in each row and column."""
    if not len(rows):
        return 0
    total = sum(shape)
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns + shape[0])), shape=(total, total))
    group = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(group, kind="stable")
    best = 0
    for part in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        there, row = np.unique(rows[part], return_inverse=True)
        where, column = np.unique(columns[part], return_inverse=True)
        table = np.zeros((len(there), len(where)), np.int64)
        table[row, column] = worth[part]
        best += int(table[linear_sum_assignment(table, maximize=True)].sum())
    return best
