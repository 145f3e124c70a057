"""Metrics: COCO mean average precision, semantic and panoptic segmentation, tracking.

Names are imported when first used, so that `import vision_tasks.metrics` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vision_tasks.metrics.coco import CocoMetric as CocoMetric
    from vision_tasks.metrics.coco_files import coco_evaluate as coco_evaluate
    from vision_tasks.metrics.coco_files import coco_summarize as coco_summarize
    from vision_tasks.metrics.coco_results import Detections as Detections
    from vision_tasks.metrics.coco_results import read_results as read_results
    from vision_tasks.metrics.coco_results import results_of as results_of
    from vision_tasks.metrics.coco_results import write_results as write_results
    from vision_tasks.metrics.coco_summary import CocoSummary as CocoSummary
    from vision_tasks.metrics.coco_summary import MatchTables as MatchTables
    from vision_tasks.metrics.coco_truth import CocoTruth as CocoTruth
    from vision_tasks.metrics.panoptic import PanopticMetric as PanopticMetric
    from vision_tasks.metrics.panoptic_summary import PanopticSummary as PanopticSummary
    from vision_tasks.metrics.semantic import SemanticMetric as SemanticMetric
    from vision_tasks.metrics.semantic_summary import SemanticSummary as SemanticSummary
    from vision_tasks.metrics.tracking import TrackingSummary as TrackingSummary
    from vision_tasks.metrics.tracking import tracking_evaluate as tracking_evaluate

_HOME = {
    "CocoMetric": "coco",
    "CocoSummary": "coco_summary",
    "CocoTruth": "coco_truth",
    "Detections": "coco_results",
    "MatchTables": "coco_summary",
    "PanopticMetric": "panoptic",
    "PanopticSummary": "panoptic_summary",
    "SemanticMetric": "semantic",
    "SemanticSummary": "semantic_summary",
    "TrackingSummary": "tracking",
    "coco_evaluate": "coco_files",
    "coco_summarize": "coco_files",
    "read_results": "coco_results",
    "results_of": "coco_results",
    "tracking_evaluate": "tracking",
    "write_results": "coco_results",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
