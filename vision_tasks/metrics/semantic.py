"""Semantic segmentation judged pixel by pixel, as a torchmetrics metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics.semantic_counts import pair_counts
from vision_tasks.metrics.semantic_summary import SemanticSummary
from vision_tasks.structures import Categories, Prediction, Target


class SemanticMetric(Metric):
    """mIoU and what else a confusion matrix tells; boundary IoU and boundary F-score if asked for.

    States are sums of counts, int64: exact, whatever the order of images and the number of ranks, also where a rank
    saw nothing. Of K categories they take 8·K² bytes, and an update takes a cache-sized piece of the maps at a time.

    A pixel whose truth is -1 is ignored. One whose prediction is -1 is wrong: missed by its category, a false alarm
    of none. An image whose `Target.semantic` is None is not evaluated. `SemanticSummary` says which categories count.

    Args:
        categories: what labels mean, in truth and predictions alike.
        multi_label: each category has a map of its own. So it is, as in `SemanticHead`, with a single category.
        boundary: width of the bands of boundary IoU as a share of the image's diagonal (0.02 in its paper); None does
            without boundaries, which cost some fifty times the rest.
        contour: how far contours may lie apart for the boundary F-score, as a share of the diagonal.

    Raises:
        VisionTasksError: no categories, or a share outside 0..1.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    kind = "semantic"

    confusion: Tensor
    boundaries: Tensor

    def __init__(
        self,
        categories: Categories,
        multi_label: bool = False,
        boundary: float | None = None,
        contour: float = 0.0075,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        k = len(categories)
        if k == 0:
            raise VisionTasksError("a semantic metric needs at least one category")
        if not (boundary is None or 0 < boundary < 1) or not 0 < contour < 1:
            raise VisionTasksError(
                f"boundary={boundary} and contour={contour} are shares of an image's diagonal, such as 0.02 and 0.0075"
            )
        self.categories = categories
        self.multi_label = multi_label or k == 1
        self.boundary = boundary
        self.contour = contour
        self._summary: SemanticSummary | None = None
        shape = (k, 2, 2) if self.multi_label else (k, k + 1)
        self.add_state("confusion", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        if boundary is not None:
            self.add_state("boundaries", torch.zeros((k, 7), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[Prediction], truths: Sequence[Target]) -> None:
        """Count the pixels of these images.

        Args:
            predictions: B; `semantic` is (H, W) integers, or (L, H, W) bool with `multi_label`; on any device, where
                counting is done.
            truths: B, of the same images at the same size.

        Raises:
            VisionTasksError: not one prediction per truth, no map, maps of other sizes or kinds, unknown labels.
        """
        if len(predictions) != len(truths):
            raise VisionTasksError(f"{len(predictions)} predictions but {len(truths)} truths")
        for prediction, truth in zip(predictions, truths, strict=True):
            if truth.semantic is None:
                continue
            found = prediction.semantic
            if found is None:
                raise VisionTasksError(
                    f"the prediction of image {truth.image_id} has no semantic map; has the model a semantic head?"
                )
            self._check_shape(found, "prediction", truth.image_id)
            self._check_shape(truth.semantic, "truth", truth.image_id)
            if found.shape != truth.semantic.shape:
                raise VisionTasksError(
                    f"image {truth.image_id}: the predicted map has {_size(found)} pixels, the truth "
                    f"{_size(truth.semantic)} (height×width); predict at the truth's size"
                )
            self._count(found, truth.semantic.to(found.device), truth.image_id)

    def compute(self) -> dict[str, float]:
        """The numbers of `SemanticSummary.numbers`, 0..1, or -1 where nothing counts."""
        self._summary = SemanticSummary(
            self.categories,
            self.confusion.cpu().numpy().copy(),
            None if self.boundary is None else self.boundaries.cpu().numpy().copy(),
        )
        return dict(self._summary.numbers)

    def summary(self) -> SemanticSummary:
        """Numbers, rows per category and the confusion matrix of all ranks. A collective call, as `compute` is."""
        self.compute()
        assert self._summary is not None
        return self._summary

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._summary = None

    def _count(self, found: Tensor, truth: Tensor, image_id: int) -> None:
        k = len(self.categories)
        try:
            if self.multi_label:
                # Values are -1, 0 and 1 here; a prediction is never -1.
                parts = [pair_counts(t, f.to(torch.int8), 3, 3, -1)[1:, 1:] for t, f in zip(truth, found, strict=True)]
                counts = torch.stack(parts)
            else:
                whole = pair_counts(truth, found, k + 1, k + 1, -1)[1:]
                counts = torch.cat([whole[:, 1:], whole[:, :1]], dim=1)
        except ValueError as error:
            which = ("truth", "prediction")[error.args[1]]
            known = "-1 (ignored), 0 (no), 1 (yes)" if self.multi_label else f"labels 0..{k - 1}, and -1 for none"
            raise VisionTasksError(
                f"image {image_id}: the {which}'s map has the value {error.args[2]}; it may have {known}"
            ) from error
        self.confusion += counts.to(self.confusion.device)
        if self.boundary is not None:
            self._count_boundaries(found, truth)

    def _count_boundaries(self, found: Tensor, truth: Tensor) -> None:
        from vision_tasks.metrics.boundary import boundary_counts

        assert self.boundary is not None
        true, drawn = (m.to(torch.int16).cpu().numpy() for m in (truth, found))
        if self.multi_label:
            pairs = zip(true, drawn, strict=True)
            counts = np.stack([boundary_counts(t, d, 2, self.boundary, self.contour)[1] for t, d in pairs])
        else:
            counts = boundary_counts(true, drawn, len(self.categories), self.boundary, self.contour)
        self.boundaries += torch.from_numpy(counts).to(self.boundaries.device)

    def _check_shape(self, semantic: Tensor, whose: str, image_id: int) -> None:
        k = len(self.categories)
        if self.multi_label and (semantic.ndim != 3 or len(semantic) != k):
            wanted = f"({k}, height, width), a map for each category"
        elif not self.multi_label and semantic.ndim != 2:
            wanted = "(height, width), a label for each pixel"
        else:
            return
        raise VisionTasksError(
            f"image {image_id}: the {whose}'s map is {tuple(semantic.shape)}, but should be {wanted}"
        )


def _size(semantic: Tensor) -> str:
    return "×".join(map(str, semantic.shape[-2:]))
