"""COCO mAP of a results file against a ground truth file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vision_tasks.metrics.coco_matching import match
from vision_tasks.metrics.coco_results import read_results
from vision_tasks.metrics.coco_summary import CocoSummary, MatchTables
from vision_tasks.metrics.coco_truth import CocoTruth, IouType


def coco_evaluate(
    gt_json: str | Path,
    results_json: str | Path,
    iou_type: IouType = "bbox",
    image_ids: Iterable[int] | None = None,
) -> dict[str, float]:
    """The twelve COCO numbers of two files, equal to pycocotools' COCOeval.

    Args:
        gt_json: COCO instances file. results_json: COCO results list.
        iou_type: "bbox", or "segm" for masks.
        image_ids: only these images are evaluated; by default all of `gt_json`.

    Returns:
        AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl: 0..1, or -1 where there is no truth to judge by.

    Raises:
        VisionTasksError: a file is missing or malformed, or they do not fit together.
    """
    return coco_summarize(gt_json, results_json, iou_type, image_ids).numbers


def coco_summarize(
    gt_json: str | Path,
    results_json: str | Path,
    iou_type: IouType = "bbox",
    image_ids: Iterable[int] | None = None,
) -> CocoSummary:
    """As `coco_evaluate`, with everything it was computed from: curves, per category, match tables."""
    truth = CocoTruth.from_file(gt_json, iou_type)
    detections = read_results(results_json, truth, iou_type)
    chosen = truth.image_ids if image_ids is None else np.unique(np.fromiter(image_ids, dtype=np.int64))
    counts, table = match(truth, chosen, detections.of_images(chosen), iou_type)
    return CocoSummary.of(MatchTables.of(truth, chosen, counts, table))
