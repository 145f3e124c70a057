"""CLEAR MOT: how many objects were found in each frame, and how often a track went over to another object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from vision_tasks.metrics.tracking_frames import EPS, TrackFrames


@dataclass(frozen=True)
class ClearCounts:
    """Counts of one sequence, or their sums over several (Bernardin and Stiefelhagen 2008).

    Attributes:
        right: boxes of truth with a track of IoU 0.5 and more. wrong: of tracks without. missed: of truth without.
        overlap: sum of the IoU of the right ones.
        switches: how often an object was given another track than the last it had.
        mostly, partly, lost: tracks of truth that were right in more than 80 %, in 20 % and more, in less of their
            frames (Li, Huang and Nevatia 2009).
        fragments: how often an object's tracking began again after a gap.
    """

    right: int = 0
    wrong: int = 0
    missed: int = 0
    overlap: float = 0.0
    switches: int = 0
    mostly: int = 0
    partly: int = 0
    lost: int = 0
    fragments: int = 0

    @property
    def numbers(self) -> dict[str, float]:
        """MOTA, MOTP and their like, in 0..1 but for MOTA and MODA, which may be negative; 0 without truth."""
        truth = self.right + self.missed
        found = self.right + self.wrong
        return {
            "MOTA": (self.right - self.wrong - self.switches) / truth if truth else 0.0,
            "MOTP": self.overlap / max(1, self.right),
            "MODA": (self.right - self.wrong) / truth if truth else 0.0,
            "sMOTA": (self.overlap - self.wrong - self.switches) / truth if truth else 0.0,
            "Recall": self.right / max(1, truth),
            "Precision": self.right / max(1, found),
            "F1": self.right / max(1.0, 0.5 * (truth + found)),
            "TP": self.right,
            "FP": self.wrong,
            "FN": self.missed,
            "IDSW": self.switches,
            "MT": self.mostly,
            "PT": self.partly,
            "ML": self.lost,
            "Frag": self.fragments,
        }


def clear_counts(frames: TrackFrames, threshold: float = 0.5) -> ClearCounts:
    """Count one sequence as TrackEval does.

    In each frame truth and tracks are assigned so that pairs of the frame before go on where they still overlap enough,
    and then so that the sum of overlaps is greatest. What came before is what was in the last frame with both truth and
    tracks. A switch is judged by the last track that the object had, however long ago.

    Args:
        frames: one sequence. threshold: IoU from which on a pair may be right.
    """
    last = np.full(frames.truths, -1)
    before = np.full(frames.truths, -1)
    seen, tracked, begun = (np.zeros(frames.truths, np.int64) for _ in range(3))
    right = wrong = missed = switches = 0
    overlap = 0.0
    for truths, tracks, similarity in frames:
        seen[truths] += 1
        if not len(truths) or not len(tracks):
            wrong += len(tracks)
            missed += len(truths)
            continue
        worth = 1000.0 * (tracks == before[truths, None]) + similarity
        worth[similarity < threshold - EPS] = 0
        rows, columns = linear_sum_assignment(-worth)
        matched = worth[rows, columns] > EPS
        rows, columns = rows[matched], columns[matched]
        objects, given = truths[rows], tracks[columns]
        switches += int(((last[objects] >= 0) & (last[objects] != given)).sum())
        tracked[objects] += 1
        begun[objects] += before[objects] < 0
        last[objects] = given
        before[:] = -1
        before[objects] = given
        right += len(rows)
        missed += len(truths) - len(rows)
        wrong += len(tracks) - len(rows)
        overlap += float(similarity[rows, columns].sum())
    ratio = tracked / np.maximum(1, seen)
    mostly, some = int((ratio > 0.8).sum()), int((ratio >= 0.2).sum())
    return ClearCounts(
        right, wrong, missed, overlap, switches, mostly, some - mostly, frames.truths - some,
        int(np.maximum(begun - 1, 0).sum()),
    )  # fmt: skip
