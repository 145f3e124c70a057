"""Panoptic quality, slowly, from the paper's definitions; and random maps to compute it for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision_tasks.metrics import PanopticMetric
from vision_tasks.structures import Categories, Panoptic

KNOWN = Categories.of([{"id": 5 * i + 1, "name": f"c{i}", "isthing": int(i < 3)} for i in range(6)])


def panoptic(ids: np.ndarray, labels: list[int], known: Categories, crowd: list[bool] | None = None) -> Panoptic:
    return Panoptic(
        torch.from_numpy(ids.astype(np.int32)),
        torch.tensor(labels, dtype=torch.int64),
        known,
        is_crowd=None if crowd is None else torch.tensor(crowd, dtype=torch.bool),
    )


def slow(pairs: list[tuple[Panoptic, Panoptic]], known: Categories) -> list[list[float]]:
    """(IoU sum, right, wrong, missed) per category, segment by segment with bitmaps of the whole image.

    Kirillov et al. 2019, section 4, and its section on void and groups ("crowds"): truth and prediction of a category
    match above an IoU of 0.5, without pixels that the truth leaves void; then predictions of which more than half lies
    in void or in a group of their category are taken away, and groups are never missed.
    """
    table: list[list[float]] = [[0.0, 0, 0, 0] for _ in known.names]
    for prediction, truth in pairs:
        crowd = truth.is_crowd.tolist() if truth.is_crowd is not None else [False] * len(truth)
        true = [truth.ids.numpy() == i + 1 for i in range(len(truth))]
        found = [prediction.ids.numpy() == i + 1 for i in range(len(prediction))]
        void = truth.ids.numpy() == 0
        matched_true, matched_found = set(), set()
        for i, t in enumerate(true):
            for j, f in enumerate(found):
                if crowd[i] or truth.labels[i] != prediction.labels[j]:
                    continue
                iou = (t & f).sum() / (t | (f & ~void)).sum() if t.any() else 0.0
                if iou > 0.5:
                    table[int(truth.labels[i])][0] += float(iou)
                    table[int(truth.labels[i])][1] += 1
                    matched_true.add(i)
                    matched_found.add(j)
        for i in range(len(true)):
            if i not in matched_true and not crowd[i]:
                table[int(truth.labels[i])][3] += 1
        for j, f in enumerate(found):
            forgiven = void.copy()
            for i, t in enumerate(true):
                if crowd[i] and truth.labels[i] == prediction.labels[j]:
                    forgiven |= t
            if j not in matched_found and f.any() and not (f & forgiven).sum() / f.sum() > 0.5:
                table[int(prediction.labels[j])][2] += 1
    return table


def averaged(table: list[list[float]], known: Categories) -> dict[str, float]:
    numbers = {}
    for group, wanted in (("", (True, False)), ("_things", (True,)), ("_stuff", (False,))):
        rows = [r for r, thing in zip(table, known.is_thing, strict=True) if thing in wanted and sum(r[1:])]
        for name in ("PQ", "SQ", "RQ"):
            values = []
            for overlap, right, wrong, missed in rows:
                segments = right + wrong / 2 + missed / 2
                values.append(
                    {"PQ": overlap / segments, "SQ": overlap / right if right else 0.0, "RQ": right / segments}[name]
                )
            numbers[name + group] = sum(values) / len(values) if values else -1.0
    return numbers


def judged(pairs: list[tuple[Panoptic, Panoptic]], known: Categories) -> PanopticMetric:
    metric = PanopticMetric(known)
    metric.update([prediction for prediction, _ in pairs], [truth for _, truth in pairs])
    return metric


def check(pairs: list[tuple[Panoptic, Panoptic]], known: Categories) -> dict[str, float]:
    summary = judged(pairs, known).summary()
    table = slow(pairs, known)
    assert summary.counts[:, 1:].tolist() == [row[1:] for row in table]
    assert summary.numbers == pytest.approx(averaged(table, known), abs=1e-11)
    return summary.numbers


def random_pair(seed: int) -> tuple[Panoptic, Panoptic]:
    """Truth with void and, of each category, at most one crowd; the prediction is moved, recoloured and holed."""
    r = np.random.default_rng(seed)
    height, width, n = int(r.integers(6, 40)), int(r.integers(6, 40)), int(r.integers(0, 12))
    centers = r.random((max(1, n), 2)) * (height, width)
    y, x = np.mgrid[:height, :width]
    nearest = ((y[..., None] - centers[:, 0]) ** 2 + (x[..., None] - centers[:, 1]) ** 2).argmin(axis=-1) + 1
    ids = np.where(r.random((height, width)) < 0.1, 0, nearest) if n else np.zeros((height, width), int)
    ids[: int(r.integers(0, 4))] = 0
    labels = r.integers(0, 6, n).tolist()
    crowd = [bool(r.random() < 0.4) and label not in labels[:i] for i, label in enumerate(labels)]
    truth = panoptic(ids, labels, KNOWN, crowd)
    moved = np.roll(ids, r.integers(-2, 3, 2), axis=(0, 1))
    moved[r.random(moved.shape) < 0.05] = 0
    if n > 2:
        moved[moved == 1] = 2
    changed = [label if r.random() < 0.75 else int(r.integers(0, 6)) for label in labels]
    return panoptic(moved, changed, KNOWN), truth
