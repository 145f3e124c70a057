"""Weights of categories in the losses, computed from the training data."""

from __future__ import annotations

import inspect
import logging
import math

import numpy as np

from vision_tasks.data.records import Records
from vision_tasks.data.semantic_check import check_maps
from vision_tasks.data.weighting import class_weights
from vision_tasks.errors import VisionTasksError
from vision_tasks.heads.semantic import SemanticHead
from vision_tasks.losses.semantic import LOSSES
from vision_tasks.models.vision_model import VisionModel

log = logging.getLogger("vision_tasks")


def weigh_classes(model: VisionModel, train: Records, rule: str) -> None:
    """Give every head of a model weights for its categories, by how often they occur in the training data.

    Objects are counted for detectors, whose class losses then weigh each object by its category. Pixels are counted
    for semantic maps (of 2,000 maps at most), and their losses get `class_weights` where the recipe gave none.

    Args:
        rule: "none", or one of `data.weighting.class_weights`.

    Raises:
        VisionTasksError: no loss of a semantic head takes weights.
    """
    if rule == "none":
        return
    for name, head in model.named_heads().items():
        if isinstance(head, SemanticHead):
            # Not for so many seconds but for so many maps: all processes, and a resumed run, must count alike.
            _, checked = check_maps(train, seconds=math.inf)
            weights = class_weights(checked.pixels, rule)
            _into_losses(name, head, weights)
        else:
            counted = train.usable & ~train.is_crowd
            weights = class_weights(np.bincount(train.labels[counted], minlength=len(head.categories)), rule)
            head.weigh_classes(weights.tolist())
        order = np.argsort(-weights, kind="stable")[:6].tolist()
        shown = ", ".join(f"{head.categories.names[k]} {weights[k]:.3g}" for k in order)
        log.info("%s: categories weigh by train.class_weights=%s: %s%s", name, rule, shown,
                 ", ..." if len(weights) > 6 else "")  # fmt: skip


def _into_losses(name: str, head: SemanticHead, weights: np.ndarray) -> None:
    takes = [loss for loss in head.spec if "class_weights" in inspect.signature(LOSSES[loss]).parameters]
    if not takes:
        raise VisionTasksError(
            f"train.class_weights: none of the losses of {name} ({', '.join(head.spec)}) takes weights of categories. "
            "Add cross_entropy to model.losses, or leave train.class_weights out."
        )
    for loss in takes:
        if head.spec[loss].get("class_weights") is None:
            head.spec[loss] = dict(head.spec[loss]) | {"class_weights": weights.tolist()}
