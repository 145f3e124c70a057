"""From match tables to numbers: precision, recall, the twelve COCO numbers, per-category values, thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from vision_tasks.metrics.coco_matching import AREA_RANGES, IOU_THRESHOLDS, LANES, MAX_DETECTIONS, counted_lanes
from vision_tasks.metrics.coco_truth import CocoTruth

RECALLS = np.linspace(0.0, 1.0, 101)
NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True, eq=False)
class MatchTables:
    """All that mean average precision is computed from, image by image, so that images can be drawn anew.

    Attributes:
        image_ids: (I,) int64. n_detections, n_truths: (I,) int64, rows below that belong to each image, in order.
        category_ids: (K,) int64. category_names: K.
        category: (N,) row of the category. rank: (N,) place in image and category, best first. score: (N,) float64.
        matched, ignored: (N,) int64, one bit per lane (see `coco_matching`).
        truth_category: (M,) row of the category. truth_counted: (M,) int64, lanes in which the truth counts.
    """

    image_ids: np.ndarray
    n_detections: np.ndarray
    n_truths: np.ndarray
    category_ids: np.ndarray
    category_names: tuple[str, ...]
    category: np.ndarray
    rank: np.ndarray
    score: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    truth_category: np.ndarray
    truth_counted: np.ndarray

    @classmethod
    def of(cls, truth: CocoTruth, image_ids: np.ndarray, counts: np.ndarray, table: np.ndarray) -> MatchTables:
        """From what `match` gave for these images: ordered by image id, of repeated images the first."""
        unique, first = np.unique(image_ids, return_index=True)
        rows = truth.image_rows(unique)
        n_truths = np.bincount(truth.image, minlength=len(truth.image_ids))
        truths = _members(n_truths, rows)
        kept = _members(counts, first)
        return cls(
            image_ids=unique,
            n_detections=counts[first],
            n_truths=n_truths[rows],
            category_ids=truth.category_ids,
            category_names=truth.category_names,
            category=table[kept, 0],
            rank=table[kept, 1],
            score=np.ascontiguousarray(table[kept, 2]).view(np.float64),
            matched=table[kept, 3],
            ignored=table[kept, 4],
            truth_category=truth.category[truths],
            truth_counted=counted_lanes(truth)[truths],
        )

    def take(self, rows: np.ndarray) -> MatchTables:
        """The tables of these images (rows into `image_ids`, repeats allowed): one draw of a bootstrap."""
        found, truths = _members(self.n_detections, rows), _members(self.n_truths, rows)
        return MatchTables(
            image_ids=self.image_ids[rows],
            n_detections=self.n_detections[rows],
            n_truths=self.n_truths[rows],
            category_ids=self.category_ids,
            category_names=self.category_names,
            category=self.category[found],
            rank=self.rank[found],
            score=self.score[found],
            matched=self.matched[found],
            ignored=self.ignored[found],
            truth_category=self.truth_category[truths],
            truth_counted=self.truth_counted[truths],
        )


@dataclass(frozen=True, eq=False)
class CocoSummary:
    """Precision and recall of every category, and what follows from them. -1 means: no truth to judge by.

    Attributes:
        tables: what it was computed from.
        precision: (10, 101, K, 4, 3) float64: IoU threshold, recall, category, area range, detections per image.
        recall: (10, K, 4, 3) float64. Both equal pycocotools' `eval["precision"]` and `eval["recall"]`.
        thresholds: (K,) float64 score from which on F1 at IoU 0.5 is best; NaN where nothing was found.
        f1: (K,) float64 that best F1, 0 where nothing was found, NaN without truth.
    """

    main: ClassVar[str] = "AP"

    tables: MatchTables
    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray
    f1: np.ndarray

    @classmethod
    def of(cls, tables: MatchTables) -> CocoSummary:
        """Sort by score and sum, as pycocotools' `accumulate`."""
        k = len(tables.category_ids)
        shape = (len(IOU_THRESHOLDS), k, len(AREA_RANGES), len(MAX_DETECTIONS))
        precision = np.full((shape[0], len(RECALLS), *shape[1:]), -1.0)
        recall = np.full(shape, -1.0)
        thresholds, f1 = np.full(k, np.nan), np.full(k, np.nan)
        n_truths = np.zeros((k, LANES), dtype=np.int64)
        np.add.at(n_truths, tables.truth_category, _lanes(tables.truth_counted))
        n_truths = n_truths.reshape(k, len(AREA_RANGES), -1)[:, :, 0]

        order = np.lexsort((-tables.score, tables.category))
        ends = np.cumsum(np.bincount(tables.category, minlength=k))[:k]
        for category in np.flatnonzero(n_truths.any(axis=1)):
            rows = order[ends[category - 1] if category else 0 : ends[category]]
            right = tables.matched[rows] & ~tables.ignored[rows]
            wrong = ~tables.matched[rows] & ~tables.ignored[rows]
            for m, limit in enumerate(MAX_DETECTIONS):
                kept = tables.rank[rows] < limit
                curves = _curves(right[kept], wrong[kept], n_truths[category])
                precision[:, :, category, :, m], recall[:, category, :, m] = curves
            thresholds[category], f1[category] = _best_f1(
                tables.score[rows], right & 1, wrong & 1, int(n_truths[category, 0])
            )
        return cls(tables, precision, recall, thresholds, f1)

    @cached_property
    def numbers(self) -> dict[str, float]:
        """The twelve COCO numbers, each 0..1, or -1 where no truth is there to judge by."""
        p, r = self.precision[..., -1], self.recall
        values = [p[:, :, :, 0], p[0, :, :, 0], p[5, :, :, 0], p[:, :, :, 1], p[:, :, :, 2], p[:, :, :, 3]]
        values += [r[:, :, 0, 0], r[:, :, 0, 1], r[:, :, 0, 2], r[:, :, 1, 2], r[:, :, 2, 2], r[:, :, 3, 2]]
        return {name: _mean(value) for name, value in zip(NUMBERS, values, strict=True)}

    @cached_property
    def per_category(self) -> list[dict[str, float | int | str]]:
        """One row per category: id, name, truths (no crowds), AP, AP50, AP75, APs, APm, APl, AR100, threshold, f1."""
        counted = self.tables.truth_category[(self.tables.truth_counted & 1).astype(bool)]
        truths = np.bincount(counted, minlength=len(self.tables.category_ids))
        rows: list[dict[str, float | int | str]] = []
        for k, (category_id, name) in enumerate(
            zip(self.tables.category_ids.tolist(), self.tables.category_names, strict=True)
        ):
            p, r = self.precision[:, :, k, :, -1], self.recall[:, k, 0, -1]
            rows.append(
                {"id": category_id, "name": name, "truths": int(truths[k])}
                | {"AP": _mean(p[..., 0]), "AP50": _mean(p[0, :, 0]), "AP75": _mean(p[5, :, 0])}
                | {"APs": _mean(p[..., 1]), "APm": _mean(p[..., 2]), "APl": _mean(p[..., 3]), "AR100": _mean(r)}
                | {"threshold": float(self.thresholds[k]), "f1": float(self.f1[k])}
            )
        return rows


def _curves(right: np.ndarray, wrong: np.ndarray, n_truths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interpolated precision (10, 101, 4) and recall (10, 4) of one category from lanes sorted by score.

    Precision can only rise where a detection is right, so the envelope needs only those, far fewer, places.
    """
    hits, misses = _lanes(right), np.cumsum(_lanes(wrong), axis=0, dtype=np.int32)
    lane, place = np.nonzero(hits.T)
    n_hits = np.bincount(lane, minlength=LANES)
    before = np.arange(len(lane)) - np.repeat(np.cumsum(n_hits) - n_hits, n_hits)
    found = (before + 1).astype(np.float64)
    envelope = np.zeros((LANES, max(1, int(n_truths.max()))))
    envelope[lane, before] = found / (misses[place, lane] + found + np.spacing(1))
    envelope = np.maximum.accumulate(envelope[:, ::-1], axis=1)[:, ::-1]
    n_areas = len(AREA_RANGES)
    by_area, n_hits = envelope.reshape(n_areas, -1, envelope.shape[1]), n_hits.reshape(n_areas, -1)
    precision = np.full((len(IOU_THRESHOLDS), len(RECALLS), n_areas), -1.0)
    recall = np.full((len(IOU_THRESHOLDS), n_areas), -1.0)
    for area, n in enumerate(n_truths.tolist()):
        if n:
            needed = np.searchsorted(np.arange(1, n + 1) / n, RECALLS, side="left")
            precision[:, :, area] = by_area[area][:, needed]
            recall[:, area] = n_hits[area] / n
    return precision, recall


def _best_f1(score: np.ndarray, right: np.ndarray, wrong: np.ndarray, n_truths: int) -> tuple[float, float]:
    """Highest score threshold (detections at or above it stay) of best F1, and that F1."""
    if n_truths == 0:
        return float("nan"), float("nan")
    found = np.cumsum(right)
    f1 = 2 * found / (n_truths + found + np.cumsum(wrong))
    # A threshold cannot part equal scores.
    f1[:-1][score[1:] == score[:-1]] = 0
    best = int(np.argmax(f1)) if len(f1) else -1
    return (float(score[best]), float(f1[best])) if best >= 0 and f1[best] > 0 else (float("nan"), 0.0)


def _lanes(bits: np.ndarray) -> np.ndarray:
    """(N,) int64 -> (N, 40) uint8 of 0 and 1."""
    octets = np.ascontiguousarray(bits.astype("<i8")).view(np.uint8).reshape(-1, 8)[:, : LANES // 8]
    lanes: np.ndarray = np.unpackbits(octets, axis=1, bitorder="little")
    return lanes


def _mean(values: np.ndarray) -> float:
    judged = values[values > -1]
    return float(np.mean(judged)) if len(judged) else -1.0


def _members(counts: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Row numbers of what belongs to `owners`, where owner i has the next `counts[i]` rows."""
    n = counts[owners]
    start = (np.cumsum(counts) - counts)[owners]
    rows: np.ndarray = np.arange(n.sum()) + np.repeat(start - np.cumsum(n) + n, n)
    return rows
