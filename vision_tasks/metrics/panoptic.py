"""Panoptic quality as a torchmetrics metric."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics.panoptic_matching import COLUMNS, match_segments
from vision_tasks.metrics.panoptic_summary import PanopticSummary
from vision_tasks.metrics.semantic_counts import pair_counts
from vision_tasks.structures import Categories, Panoptic


class PanopticMetric(Metric):
    """PQ, SQ and RQ of all categories, of things and of stuff, equal to panopticapi's.

    States are sums, int64: exact, whatever the order of images and the number of ranks, also where a rank saw nothing.

    Labels are understood by the names of their own `Panoptic.categories`, in any case if need be. A segment of a name
    that is unknown here counts as undecided, in truth and prediction.

    Args:
        categories: what is judged.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    kind = "panoptic"

    counts: Tensor

    def __init__(self, categories: Categories, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.categories = categories
        self._summary: PanopticSummary | None = None
        shape = (len(categories), len(COLUMNS))
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[Panoptic], truths: Sequence[Panoptic]) -> None:
        """Match the segments of these images.

        Args:
            predictions: B, on any device, where pixels are counted. truths: B, of the same images at the same size.

        Raises:
            VisionTasksError: not one prediction per truth, maps of other sizes, a segment without a label, no common
                category.
        """
        if len(predictions) != len(truths):
            raise VisionTasksError(f"{len(predictions)} predictions but {len(truths)} truths")
        for number, (prediction, truth) in enumerate(zip(predictions, truths, strict=True)):
            try:
                pixels = pair_counts(
                    truth.ids.to(prediction.ids.device), prediction.ids, 1 + len(truth), 1 + len(prediction)
                )
            except ValueError as error:
                which = ("truth", "prediction")[error.args[1]]
                raise VisionTasksError(
                    f"image {number} of this batch: the {which}'s panoptic map does not fit: {error.args[0]}"
                ) from error
            true = _Segments.of(truth, self.categories)
            found = _Segments.of(prediction, self.categories)
            table = found.without_unknown(true.without_unknown(pixels.cpu().numpy()).T).T
            counts = match_segments(table, true.labels, true.is_crowd, found.labels, len(self.categories))
            self.counts += torch.from_numpy(counts).to(self.counts.device)

    def compute(self) -> dict[str, float]:
        """The numbers of `PanopticSummary.numbers`, 0..1, or -1 where nothing counts."""
        self._summary = PanopticSummary(self.categories, self.counts.cpu().numpy().copy())
        return dict(self._summary.numbers)

    def summary(self) -> PanopticSummary:
        """Numbers and rows per category of all ranks. A collective call, as `compute` is."""
        self.compute()
        assert self._summary is not None
        return self._summary

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._summary = None


class _Segments:
    """Labels of an image's segments that the metric knows.

    Attributes:
        labels: (S,) int64 into the metric's categories. is_crowd: (S,) bool. known: (N,) bool, S of them true.
    """

    def __init__(self, labels: np.ndarray, is_crowd: np.ndarray) -> None:
        self.known = labels >= 0
        self.labels, self.is_crowd = labels[self.known], is_crowd[self.known]

    @classmethod
    def of(cls, panoptic: Panoptic, wanted: Categories) -> _Segments:
        labels = panoptic.labels.cpu().numpy()
        if panoptic.categories is not wanted and panoptic.categories != wanted:
            labels = _labels_by_name(panoptic.categories, wanted)[labels]
        crowd = panoptic.is_crowd
        return cls(labels, np.zeros(len(labels), dtype=bool) if crowd is None else crowd.cpu().numpy().astype(bool))

    def without_unknown(self, pixels: np.ndarray) -> np.ndarray:
        """(1 + N, ...) counts by segment -> (1 + S, ...): those of unknown segments go to the first row."""
        first = pixels[:1] + pixels[1:][~self.known].sum(axis=0, keepdims=True)
        return np.concatenate([first, pixels[1:][self.known]])


@lru_cache(maxsize=16)
def _labels_by_name(own: Categories, wanted: Categories) -> np.ndarray:
    """(K,) int64: the label among `wanted` of each of one's own categories, -1 if there is none of its name.

    Raises:
        VisionTasksError: no name is common to both.
    """
    labels = np.full(len(own), -1, dtype=np.int64)
    taken: set[int] = set()
    for key in (str, lambda name: name.strip().casefold()):
        places = {key(name): k for k, name in reversed(list(enumerate(wanted.names))) if k not in taken}
        for label, name in enumerate(own.names):
            if labels[label] < 0 and key(name) in places:
                labels[label] = places.pop(key(name))
                taken.add(int(labels[label]))
    if len(own) and not taken:
        raise VisionTasksError(
            f"a panoptic map is about {', '.join(own.names[:5])}, the metric about {', '.join(wanted.names[:5])}: they "
            "have no category in common"
        )
    labels.flags.writeable = False
    return labels
