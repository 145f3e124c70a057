"""HOTA: detection and association in equal parts, at 19 degrees of overlap."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from vision_tasks.metrics.tracking_frames import EPS, TrackFrames

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""Overlaps from which on a pair may be right. By TrackEval's expression: the last bits decide at ties."""


def _zeros() -> NDArray[np.float64]:
    return np.zeros(len(ALPHAS))


@dataclass(frozen=True, eq=False)
class HotaCounts:
    """Counts of one sequence at every alpha, or their sums over several (Luiten et al. 2021).

    Attributes:
        right, wrong, missed: (19,) boxes, float64.
        overlap: (19,) sum of the IoU of the right ones.
        association, recall, precision: (19,) sums over the right boxes of how well their object's way and their track
            agree: Jaccard index, share of the object's boxes, share of the track's boxes.
    """

    right: NDArray[np.float64] = field(default_factory=_zeros)
    wrong: NDArray[np.float64] = field(default_factory=_zeros)
    missed: NDArray[np.float64] = field(default_factory=_zeros)
    overlap: NDArray[np.float64] = field(default_factory=_zeros)
    association: NDArray[np.float64] = field(default_factory=_zeros)
    recall: NDArray[np.float64] = field(default_factory=_zeros)
    precision: NDArray[np.float64] = field(default_factory=_zeros)

    @property
    def curves(self) -> dict[str, NDArray[np.float64]]:
        """(19,) HOTA and what it consists of, at every alpha."""
        matched = np.maximum(1, self.right)
        detection = self.right / np.maximum(1, self.right + self.missed + self.wrong)
        recall = self.right / np.maximum(1, self.right + self.missed)
        association = self.association / matched
        return {
            "HOTA": np.sqrt(detection * association),
            "DetA": detection,
            "AssA": association,
            "DetRe": recall,
            "DetPr": self.right / np.maximum(1, self.right + self.wrong),
            "AssRe": self.recall / matched,
            "AssPr": self.precision / matched,
            # 1 where nothing is right: what is not there is not out of place.
            "LocA": np.maximum(1e-10, self.overlap) / np.maximum(1e-10, self.right),
            "OWTA": np.sqrt(recall * association),
        }

    @property
    def numbers(self) -> dict[str, float]:
        """Means over the alphas, in 0..1; and HOTA(0), LocA(0) and their product at alpha 0.05."""
        curves = self.curves
        low = {f"{name}(0)": float(curves[name][0]) for name in ("HOTA", "LocA")}
        low["HOTALocA(0)"] = low["HOTA(0)"] * low["LocA(0)"]
        return {name: float(values.mean()) for name, values in curves.items()} | low


def hota_counts(frames: TrackFrames) -> HotaCounts:
    """Count one sequence as TrackEval does.

    A first pass says how well each object's way and each track agree over the whole sequence; a second assigns them in
    each frame by that agreement times overlap. Only pairs that overlap somewhere are kept.
    """
    width = max(1, frames.tracks)
    truth_boxes = np.bincount(frames.truth_ids, minlength=frames.truths)
    found_boxes = np.bincount(frames.found_ids, minlength=frames.tracks)
    keys, agreed = _agreement(frames, width)
    boxes = truth_boxes[keys // width] + found_boxes[keys % width]
    agreement = agreed / (boxes - agreed)
    right, overlap = _zeros(), _zeros()
    pairs, passed = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for truths, tracks, similarity in frames:
        worth = np.zeros_like(similarity)
        rows, columns = np.nonzero(similarity)
        place = np.searchsorted(keys, truths[rows] * width + tracks[columns])
        worth[rows, columns] = agreement[place] * similarity[rows, columns]
        rows, columns = linear_sum_assignment(-worth)
        near = similarity[rows, columns]
        good = near[:, None] >= ALPHAS - EPS
        right += good.sum(0)
        overlap += (near[:, None] * good).sum(0)
        pairs.append((truths[rows] * width + tracks[columns])[good[:, 0]])
        passed.append(good.sum(1)[good[:, 0]])
    where = np.searchsorted(keys, np.concatenate(pairs))
    # How often each pair was right at each alpha: (pairs, 19), summed from the highest alpha down.
    counts = np.zeros((len(keys), len(ALPHAS)))
    np.add.at(counts, (where, np.concatenate(passed) - 1), 1)
    counts = counts[:, ::-1].cumsum(1)[:, ::-1]
    return HotaCounts(
        right,
        len(frames.found_ids) - right,
        len(frames.truth_ids) - right,
        overlap,
        (counts * counts / np.maximum(1, boxes[:, None] - counts)).sum(0),
        (counts * counts / np.maximum(1, truth_boxes[keys // width])[:, None]).sum(0),
        (counts * counts / np.maximum(1, found_boxes[keys % width])[:, None]).sum(0),
    )


def _agreement(frames: TrackFrames, width: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(P,) ascending keys, object · width + track, of pairs that ever overlap, and (P,) how much they do in all.

    In a frame a pair counts by its overlap over all that object and track have with anything.
    """
    keys, sums = np.zeros(0, np.int64), np.zeros(0)
    pairs: list[NDArray[np.int64]] = []
    shares: list[NDArray[np.float64]] = []
    waiting = 0

    def gathered() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        every, place = np.unique(np.concatenate([keys, *pairs]), return_inverse=True)
        total = np.bincount(place, np.concatenate([sums, *shares]), minlength=len(every))
        return every, np.asarray(total, np.float64)

    for truths, tracks, similarity in frames:
        whole = similarity.sum(0) + similarity.sum(1)[:, None] - similarity
        rows, columns = np.nonzero(similarity)
        near = similarity[rows, columns]
        pairs.append(truths[rows] * width + tracks[columns])
        shares.append(np.where(whole[rows, columns] > EPS, near / whole[rows, columns], 0))
        waiting += len(rows)
        if waiting > 1 << 20:
            keys, sums = gathered()
            pairs, shares, waiting = [], [], 0
    return gathered()
