"""torchvision's segmentation checkpoints in our names: FCN, DeepLabV3 and LR-ASPP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torchvision
from torch import Tensor

from vision_tasks.structures import Categories
from vision_tasks.weights.torchvision import Names, renamed

State = Mapping[str, Tensor]

_DECODER, _AUXILIARY = "heads.semantic.decoder.", "heads.semantic.auxiliary."
_FCN_LAYERS = ((r"([01])\.", r"layers.\1."), (r"4\.", "classifier."))
_SECOND: Names = tuple((r"aux_classifier\." + theirs, _AUXILIARY + ours) for theirs, ours in _FCN_LAYERS)
_FCN: Names = (*((r"classifier\." + theirs, _DECODER + ours) for theirs, ours in _FCN_LAYERS), *_SECOND)
_DEEPLAB: Names = (
    (r"classifier\.0\.convs\.4\.([12])\.", lambda m: f"{_DECODER}aspp.whole.{int(m[1]) - 1}."),
    (r"classifier\.0\.convs\.", _DECODER + "aspp.branches."),
    (r"classifier\.0\.project\.", _DECODER + "aspp.project."),
    (r"classifier\.([12])\.", lambda m: f"{_DECODER}layers.{int(m[1]) - 1}."),
    (r"classifier\.4\.", _DECODER + "classifier."),
    *_SECOND,
)
_LRASPP: Names = (
    (r"classifier\.cbr\.", _DECODER + "layers."),
    (r"classifier\.scale\.1\.", _DECODER + "weigh."),
    (r"classifier\.low_classifier\.", _DECODER + "fine_classifier."),
    (r"classifier\.high_classifier\.", _DECODER + "coarse_classifier."),
)
_RESNETS = {6: "resnet50", 23: "resnet101", 36: "resnet152"}  # by the blocks of layer3
_SHORTER_SIDE = 520  # pixels, of the published files' own preprocessing


def is_fcn(state: State) -> bool:
    """Whether a state dict is laid out as torchvision's FCN."""
    first = state.get("classifier.0.weight")
    return first is not None and first.ndim == 4 and "classifier.4.weight" in state and _has_backbone(state)


def is_deeplabv3(state: State) -> bool:
    """Whether a state dict is laid out as torchvision's DeepLabV3."""
    return "classifier.0.convs.4.1.weight" in state and _has_backbone(state)


def is_lraspp(state: State) -> bool:
    """Whether a state dict is laid out as torchvision's LR-ASPP."""
    return "classifier.low_classifier.weight" in state and _has_backbone(state)


def rename_fcn(state: State) -> dict[str, Tensor]:
    """torchvision's FCN state dict in our names; what has no counterpart keeps its name."""
    return renamed(_backbone_named(state), _FCN)


def rename_deeplabv3(state: State) -> dict[str, Tensor]:
    """The same of DeepLabV3."""
    return renamed(_backbone_named(state), _DEEPLAB)


def rename_lraspp(state: State) -> dict[str, Tensor]:
    """The same of LR-ASPP."""
    return renamed(_backbone_named(state), _LRASPP)


def outputs_of(state: State) -> int:
    """Class outputs of any of the three."""
    return len(state.get("classifier.4.weight", state.get("classifier.low_classifier.weight", ())))


def semantic_options(state: State) -> dict[str, Any]:
    """Builder options that a state dict shows; all of the model goes on learning, with batch norm, as there.

    Files of 21 outputs, as published, also bring the size that they were evaluated at.
    """
    options: dict[str, Any] = {"norm": "batch", "trainable_stages": 5}
    options["auxiliary"] = "aux_classifier.4.weight" in state
    if _is_mobilenet(state):
        # At a stride of 16 torchvision's dilations stay those that the paper has at 8.
        options |= {"backbone": "mobilenet_v3_large", "output_stride": 16}
        options |= {"rates": (12, 24, 36)} if is_deeplabv3(state) else {}
    else:
        blocks = {m[1] for name in state if (m := re.match(r"backbone\.layer3\.(\d+)\.", name))}
        options |= {"backbone": _RESNETS[len(blocks)]} if len(blocks) in _RESNETS else {}
    if outputs_of(state) == len(voc_categories()):
        options["min_size"] = _SHORTER_SIDE
    return options


def voc_categories() -> Categories:
    """The 21 categories of the published files, ids 0 to 20, "__background__" first."""
    weights = torchvision.models.segmentation.FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1
    names = weights.meta["categories"]
    return Categories.of([{"id": i, "name": name} for i, name in enumerate(names)])


def _has_backbone(state: State) -> bool:
    return any(name.startswith("backbone.") for name in state)


def _is_mobilenet(state: State) -> bool:
    return "backbone.0.0.weight" in state


def _backbone_named(state: State) -> dict[str, Tensor]:
    """torchvision cuts the backbone's layers out of the container that its classification network keeps them in."""
    if not _is_mobilenet(state):
        return dict(state)
    return {re.sub(r"^backbone\.", "backbone.features.", name): value for name, value in state.items()}
