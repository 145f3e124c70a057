"""torchvision's SSD and SSDLite checkpoints in our names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vision_tasks.weights.torchvision import Names, renamed

_HEAD = (
    (r"head\.classification_head\.module_list\.", "heads.objects.classes."),
    (r"head\.regression_head\.module_list\.", "heads.objects.deltas."),
)
_SSD: Names = (
    (r"backbone\.scale_weight$", "neck.scale"),
    (r"backbone\.extra\.0\.7\.1\.", "neck.fc6."),
    (r"backbone\.extra\.0\.7\.3\.", "neck.fc7."),
    # What follows conv4_3 is numbered anew there, beginning with the fourth pooling.
    (r"backbone\.extra\.0\.(\d)\.", lambda m: f"backbone.features.{23 + int(m[1])}."),
    (r"backbone\.extra\.(\d)\.", lambda m: f"neck.extra.blocks.{int(m[1]) - 1}."),
    *_HEAD,
)
_SSDLITE: Names = (
    # Block 13 is cut behind its expansion, and what follows is numbered anew.
    (r"backbone\.features\.0\.13\.", "backbone.features.13.block.0."),
    (r"backbone\.features\.0\.", "backbone.features."),
    (r"backbone\.features\.1\.0\.", "backbone.features.13.block."),
    (r"backbone\.features\.1\.(\d)\.", lambda m: f"backbone.features.{13 + int(m[1])}."),
    (r"backbone\.extra\.", "neck.blocks."),
    *_HEAD,
)
_CLASSES = "head.classification_head.module_list.0."


def is_ssd(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is laid out as torchvision's SSD on VGG-16."""
    return {_CLASSES + "weight", "backbone.scale_weight"} <= state.keys()


def is_ssdlite(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is laid out as torchvision's SSDLite on MobileNetV3-Large."""
    return {_CLASSES + "1.weight", "backbone.features.0.13.0.weight"} <= state.keys()


def rename_ssd(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's SSD state dict in our names; what has no counterpart keeps its name."""
    return renamed(state, _SSD)


def rename_ssdlite(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's SSDLite state dict in our names; what has no counterpart keeps its name."""
    return renamed(state, _SSDLITE)


def ssd_outputs(state: Mapping[str, Tensor]) -> int:
    """Class outputs, background included: SSD's finest map has four default boxes a cell."""
    return len(state[_CLASSES + "weight"]) // 4


def ssdlite_outputs(state: Mapping[str, Tensor]) -> int:
    """Class outputs, background included: every map of SSDLite has six default boxes a cell."""
    return len(state[_CLASSES + "1.weight"]) // 6


def ssdlite_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Whether the body is half as wide behind C4, as in the published file; and that all of it goes on learning.

    Unlike its R-CNNs, torchvision trains SSDLite's body whole and with batch norm, also from published weights.
    """
    last = state.get("backbone.features.1.3.0.weight")
    return {"reduced_tail": last is not None and len(last) == 480, "norm": "batch", "trainable_stages": 5}
