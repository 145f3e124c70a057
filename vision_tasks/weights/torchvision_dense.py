"""torchvision's RetinaNet and FCOS checkpoints in our names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vision_tasks.weights.torchvision import PYRAMID, Names, renamed

State = Mapping[str, Tensor]

_CLASSES, _BOXES = r"head\.classification_head\.", r"head\.regression_head\."
_OUTPUTS: Names = (
    *PYRAMID,
    (r"backbone\.fpn\.extra_blocks\.p6\.", "neck.above.0."),
    (r"backbone\.fpn\.extra_blocks\.p7\.", "neck.above.1."),
    (_CLASSES + r"cls_logits\.", "heads.objects.class_logits."),
    (_BOXES + r"bbox_ctrness\.", "heads.objects.centerness."),
)
_TOWERS = ((_CLASSES, "heads.objects.class_tower."), (_BOXES, "heads.objects.box_tower."))


def is_fcos(state: State) -> bool:
    """Whether a state dict is laid out as torchvision's FCOS."""
    return "head.regression_head.bbox_ctrness.weight" in state


def is_retinanet(state: State) -> bool:
    """Whether a state dict is laid out as torchvision's RetinaNet."""
    return "head.classification_head.cls_logits.weight" in state and not is_fcos(state)


def retinanet_variant(state: State) -> str:
    """Only v2 has norms in its towers."""
    return "v2" if "head.classification_head.conv.0.1.weight" in state else "v1"


def dense_outputs(state: State) -> int:
    """Class outputs of either: those of one anchor."""
    anchors = len(state["head.regression_head.bbox_reg.weight"]) // 4
    return len(state["head.classification_head.cls_logits.weight"]) // anchors


def rename_fcos(state: State) -> dict[str, Tensor]:
    """torchvision's FCOS state dict in our names; what has no counterpart keeps its name."""
    towers = tuple((theirs + r"conv\.", ours) for theirs, ours in _TOWERS)
    return renamed(state, (*_OUTPUTS, (_BOXES + r"bbox_reg\.", "heads.objects.distances."), *towers))


def rename_retinanet(state: State) -> dict[str, Tensor]:
    """torchvision's RetinaNet state dict in our names; what has no counterpart keeps its name.

    Files made before torchvision 0.13, the published one of v1 among them, number the layers of a tower, convolutions
    and ReLUs, in one row, as we do; later ones number blocks, and the layers of each.
    """
    length = 3 if retinanet_variant(state) == "v2" else 2
    blocks = tuple(
        (rf"{theirs}conv\.{block}\.{layer}\.", f"{ours}{length * block + layer}.")
        for theirs, ours in _TOWERS
        for block in range(4)
        for layer in range(length - 1)
    )
    layers = tuple((theirs + r"conv\.", ours) for theirs, ours in _TOWERS)
    return renamed(state, (*_OUTPUTS, (_BOXES + r"bbox_reg\.", "heads.objects.box_deltas."), *blocks, *layers))
