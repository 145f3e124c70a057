"""A model small enough to build and run in milliseconds."""

from __future__ import annotations

from typing import Any

import torch

import vision_tasks as vt
from vision_tasks.models.vision_model import VisionModel

OPTIONS: dict[str, Any] = {"backbone": "resnet_narrow", "channels": 16, "hidden": 32, "min_size": 64, "max_size": 128}


def tiny_model(categories: tuple[str, ...] = ("cat", "dog"), seed: int = 0, **options: Any) -> VisionModel:
    """Random weights, with a classifier bold enough for scores all over 0..1."""
    torch.manual_seed(seed)
    model = vt.create_model("faster_rcnn", categories, **(OPTIONS | options))
    with torch.no_grad():
        model.heads["objects"].roi.scores.weight *= 30
    return model
