"""COCO mean average precision as a torchmetrics metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics.coco_matching import match
from vision_tasks.metrics.coco_results import Detections, detections_of
from vision_tasks.metrics.coco_summary import CocoSummary, MatchTables
from vision_tasks.metrics.coco_truth import CocoTruth, IouType
from vision_tasks.structures import Prediction


class CocoMetric(Metric):
    """COCO mAP, equal to pycocotools' COCOeval, from predictions that arrive batch by batch on any number of ranks.

    `update` matches at once and keeps 40 bytes per detection; boxes and masks are forgotten. Images that were never
    updated are not evaluated; of an image that was updated twice (on one rank or on two) the first update counts,
    lowest rank first. Ties in score resolve by image id, then by input order, however images were dealt out.

    One known difference: an annotation with id 0 counts as any other here, while pycocotools takes a match with it
    for no match.

    Args:
        truth: the data set, the same on every rank. iou_type: "bbox" or "segm"; the latter needs a truth read for it.

    Raises:
        VisionTasksError: the truth has no masks but iou_type is "segm".
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    images: list[Tensor]
    detections: list[Tensor]

    def __init__(self, truth: CocoTruth, iou_type: IouType = "bbox", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if iou_type not in ("bbox", "segm"):
            raise VisionTasksError(f"iou_type must be 'bbox' or 'segm', not {iou_type!r}")
        if iou_type == "segm" and truth.rles is None:
            raise VisionTasksError("this truth has no masks; read it with CocoTruth.from_file(path, iou_type='segm')")
        self.truth = truth
        self.iou_type: IouType = iou_type
        self._summary: CocoSummary | None = None
        # All states are int64: a score travels as the bits of its float64, since MPS has no float64 and .half() would
        # round it. `images` holds (I, 2) tables: id and number of detections, whose rows follow each other in the
        # same order in `detections`, (N, 5) tables as made by `match`.
        self.add_state("images", default=[], dist_reduce_fx="cat")
        self.add_state("detections", default=[], dist_reduce_fx="cat")

    @property
    def kind(self) -> str:
        """Of its summary among those of a run: the `iou_type`."""
        return self.iou_type

    def update(
        self, predictions: Sequence[Prediction] | Detections, image_ids: Sequence[int] | np.ndarray | Tensor
    ) -> None:
        """Match the predictions of these images.

        Args:
            predictions: one per image, in original pixels; or flat arrays with detections of these images only.
            image_ids: (I,) ids in the truth. Name images without detections too, or their objects do not count.

        Raises:
            VisionTasksError: unknown image id, not one prediction per id, or a score or box that is not finite.
        """
        ids = np.asarray(image_ids.cpu() if isinstance(image_ids, Tensor) else image_ids, dtype=np.int64).reshape(-1)
        if isinstance(predictions, Detections):
            ids = np.unique(ids)
            found = predictions
        else:
            _, first = np.unique(ids, return_index=True)
            if len(predictions) != len(ids):
                raise VisionTasksError(f"{len(predictions)} predictions but {len(ids)} image ids")
            found = detections_of([predictions[i] for i in first], ids[first].tolist(), self.iou_type)
            ids = ids[first]
        if self.iou_type == "segm" and found.rles is None:
            raise VisionTasksError("detections without masks cannot be evaluated with iou_type='segm'")
        counts, table = match(self.truth, ids, found, self.iou_type)
        self.images.append(torch.from_numpy(np.stack([ids, counts], axis=1)))
        self.detections.append(torch.from_numpy(table))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the tables of all ranks. A rank that saw nothing gives empties of the right type and shape."""
        self.images = [torch.from_numpy(_joined(self.images, 2)).to(self.device)]
        self.detections = [torch.from_numpy(_joined(self.detections, 5)).to(self.device)]
        super().sync(*args, **kwargs)

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl: 0..1, or -1 without truth to judge by."""
        images, detections = _joined(self.images, 2), _joined(self.detections, 5)
        self._summary = CocoSummary.of(MatchTables.of(self.truth, images[:, 0], images[:, 1], detections))
        return dict(self._summary.numbers)

    def summary(self) -> CocoSummary:
        """Curves, per-category values and match tables of all ranks. A collective call, as `compute` is."""
        self.compute()
        assert self._summary is not None
        return self._summary

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._summary = None


def _joined(state: list[Tensor] | Tensor, columns: int) -> np.ndarray:
    """One int64 table, whether the state is a list of tables or, after a gather, a single one."""
    parts = [state] if isinstance(state, Tensor) else state
    tables = [part.cpu().numpy().reshape(-1, columns) for part in parts if part.numel()]
    return np.concatenate(tables) if tables else np.zeros((0, columns), dtype=np.int64)
