"""vision_tasks: object detection, instance and semantic segmentation.

The names below are the public surface. They load on first use, so that importing the package is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vision_tasks import data, metrics
    from vision_tasks.errors import VisionTasksError
    from vision_tasks.inference.connectors import to_coco, to_labelme, to_pandas, to_supervision
    from vision_tasks.inference.frames import Frame
    from vision_tasks.inference.predictor import Predictor
    from vision_tasks.inference.sources.opening import open_sources
    from vision_tasks.inference.tracking.registry import TRACKERS, create_tracker
    from vision_tasks.models.checkpoint import load, save
    from vision_tasks.models.registry import MODELS, create_model, list_models
    from vision_tasks.structures import Batch, Categories, Masks, Prediction, Target
    from vision_tasks.visualize.drawing import draw
    from vision_tasks.visualize.tracks import Trails

_WHERE = {
    "VisionTasksError": "vision_tasks.errors",
    "Frame": "vision_tasks.inference.frames",
    "Predictor": "vision_tasks.inference.predictor",
    "TRACKERS": "vision_tasks.inference.tracking.registry",
    "open_sources": "vision_tasks.inference.sources.opening",
    "Trails": "vision_tasks.visualize.tracks",
    "draw": "vision_tasks.visualize.drawing",
    "create_tracker": "vision_tasks.inference.tracking.registry",
    "to_coco": "vision_tasks.inference.connectors",
    "to_labelme": "vision_tasks.inference.connectors",
    "to_pandas": "vision_tasks.inference.connectors",
    "to_supervision": "vision_tasks.inference.connectors",
    "load": "vision_tasks.models.checkpoint",
    "save": "vision_tasks.models.checkpoint",
    "MODELS": "vision_tasks.models.registry",
    "create_model": "vision_tasks.models.registry",
    "list_models": "vision_tasks.models.registry",
    "Batch": "vision_tasks.structures",
    "Categories": "vision_tasks.structures",
    "Masks": "vision_tasks.structures",
    "Prediction": "vision_tasks.structures",
    "Target": "vision_tasks.structures",
}
_ROOMS = ("data", "metrics")

__all__ = [
    "MODELS",
    "TRACKERS",
    "Batch",
    "Categories",
    "Frame",
    "Masks",
    "Prediction",
    "Predictor",
    "Target",
    "Trails",
    "VisionTasksError",
    "__version__",
    "create_model",
    "create_tracker",
    "data",
    "draw",
    "list_models",
    "load",
    "metrics",
    "open_sources",
    "save",
    "to_coco",
    "to_labelme",
    "to_pandas",
    "to_supervision",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"vision_tasks.{name}")
    raise AttributeError(f"module 'vision_tasks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
