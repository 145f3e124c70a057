"""YOLOX's published checkpoints (Megvii, Apache-2.0) in our names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vision_tasks.weights.torchvision import renamed

_NAMES = (
    (r"backbone\.backbone\.", "backbone."),
    # Between which levels a layer of the pyramid stands: theirs count from the top or by the level, ours from P3 up.
    (r"backbone\.lateral_conv0\.", "neck.reduce.1."),
    (r"backbone\.reduce_conv1\.", "neck.reduce.0."),
    (r"backbone\.C3_p4\.", "neck.merge_down.1."),
    (r"backbone\.C3_p3\.", "neck.merge_down.0."),
    (r"backbone\.bu_conv2\.", "neck.shrink.0."),
    (r"backbone\.bu_conv1\.", "neck.shrink.1."),
    (r"backbone\.C3_n3\.", "neck.merge_up.0."),
    (r"backbone\.C3_n4\.", "neck.merge_up.1."),
    (r"head\.stems\.", "heads.objects.stems."),
    (r"head\.cls_convs\.", "heads.objects.class_convs."),
    (r"head\.reg_convs\.", "heads.objects.box_convs."),
    (r"head\.cls_preds\.", "heads.objects.classes."),
    (r"head\.reg_preds\.", "heads.objects.boxes."),
    (r"head\.obj_preds\.", "heads.objects.objectness."),
)

_STEM, _CLASSES = "backbone.backbone.stem.conv.conv.weight", "head.cls_preds.0.weight"
_VARIANTS = {16: "nano", 24: "tiny", 32: "s", 48: "m", 64: "l", 80: "x"}  # by the width of the stem


def is_yolox(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is laid out as YOLOX's, on its own CSPDarknet."""
    return _STEM in state and _CLASSES in state


def rename_yolox(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """YOLOX's state dict in our names; what has no counterpart keeps its name."""
    return renamed(state, _NAMES)


def class_outputs(state: Mapping[str, Tensor]) -> int:
    """Number of class outputs of YOLOX's state dict."""
    return len(state[_CLASSES])


def builder_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The variant, which the width of the stem tells."""
    variant = _VARIANTS.get(len(state[_STEM]))
    return {} if variant is None else {"variant": variant}
