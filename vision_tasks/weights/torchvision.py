"""torchvision's detection checkpoints in our names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torchvision
from torch import Tensor

from vision_tasks.structures import Categories

Names = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
"""(pattern of the beginning of a foreign name, what replaces it); the first that fits is taken."""

# Two spellings each: torchvision renamed its convolutions in 0.13, and its published files are older.
PYRAMID: Names = (
    (r"backbone\.body\.", "backbone."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.1\.", r"neck.lateral_norm.\1."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.1\.", r"neck.output_norm.\1."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?", r"neck.lateral.\1."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?", r"neck.output.\1."),
)

_NAMES: Names = (
    *PYRAMID,
    (r"rpn\.head\.conv\.1\.0\.", "heads.objects.rpn.deeper.0."),
    (r"rpn\.head\.conv\.(?:0\.0\.)?", "heads.objects.rpn.conv."),
    (r"rpn\.head\.cls_logits\.", "heads.objects.rpn.objectness."),
    (r"rpn\.head\.bbox_pred\.", "heads.objects.rpn.deltas."),
    (r"roi_heads\.box_head\.(fc[67])\.", r"heads.objects.roi.\1."),
    (r"roi_heads\.box_predictor\.cls_score\.", "heads.objects.roi.scores."),
    (r"roi_heads\.box_predictor\.bbox_pred\.", "heads.objects.roi.deltas."),
    # v2: four convolutions with their norms, a flattening, one fully connected layer
    (r"roi_heads\.box_head\.([0-3])\.", r"heads.objects.roi.convs.\1."),
    (r"roi_heads\.box_head\.5\.", "heads.objects.roi.fc6."),
    *((rf"roi_heads\.mask_head\.mask_fcn{i + 1}\.", f"heads.objects.mask.convs.{i}.0.") for i in range(4)),
    (r"roi_heads\.mask_head\.(\d)\.", r"heads.objects.mask.convs.\1."),
    (r"roi_heads\.mask_predictor\.conv5_mask\.", "heads.objects.mask.upsample."),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.", "heads.objects.mask.logits."),
)


def is_torchvision_rcnn(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is laid out as torchvision's R-CNN family."""
    return "roi_heads.box_predictor.cls_score.weight" in state


def has_masks(state: Mapping[str, Tensor]) -> bool:
    """Whether it is of torchvision's Mask R-CNN."""
    return any(name.startswith("roi_heads.mask_head.") for name in state)


def rcnn_options(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Options of `faster_rcnn` and `mask_rcnn` that a state dict of torchvision's shows."""
    if "backbone.body.0.0.weight" in state:
        return {"backbone": "mobilenet_v3_large"}
    return {"variant": "v2"} if "rpn.head.conv.1.0.weight" in state else {}


def rename_rcnn(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's Faster or Mask R-CNN state dict in our names; what has no counterpart keeps its name."""
    if "backbone.body.0.0.weight" in state:  # a MobileNet, whose container of layers is not named there
        state = {re.sub(r"^backbone\.body\.", "backbone.features.", name): value for name, value in state.items()}
    return renamed(state, _NAMES)


def renamed(state: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """A state dict under other names; what no pattern fits keeps its own."""
    result = {}
    for name, value in state.items():
        for pattern, ours in names:
            new, count = re.subn("^" + pattern, ours, name)
            if count:
                name = new
                break
        result[name] = value
    return result


def coco_categories() -> tuple[Categories, tuple[int, ...], int]:
    """COCO's 80 categories with their ids 1..90, the output that belongs to each, and the number of outputs, 91."""
    names = torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    real = [(i, n) for i, n in enumerate(names) if n not in ("__background__", "N/A")]
    categories = Categories.of([{"id": i, "name": n} for i, n in real])
    return categories, tuple(i for i, _ in real), len(names)
