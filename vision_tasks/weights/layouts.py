"""Whose file is this? Every foreign layout of whole-model weights that can be read, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vision_tasks.structures import Categories
from vision_tasks.weights import torchvision, torchvision_dense, torchvision_semantic, torchvision_ssd, yolox

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Known:
    """The classes that a weight file's outputs stand for.

    Attributes:
        categories: K of them. columns: (K,) output of each. outputs: how many there are in all.
    """

    categories: Categories
    columns: tuple[int, ...]
    outputs: int


@dataclass(frozen=True)
class Layout:
    """One publisher's way of naming the parameters of an architecture.

    Attributes:
        name: for messages, "torchvision's Faster R-CNN". models: names in `MODELS` that such a file fits.
        matches: whether a state dict is laid out so. rename: its tensors under our names; what has no counterpart
            keeps its own.
        outputs: number of class outputs of such a state dict, background included.
        options: builder options that the file itself reveals (a variant); the user's own go first.
        coco: how many class outputs the publisher's COCO files have. A file with another number is of other classes,
            also if it has another publisher's number.
        from_one: files of other classes, whose names nobody knows, count them from 1, after a background.
    """

    name: str
    models: tuple[str, ...]
    matches: Callable[[State], bool]
    rename: Callable[[State], dict[str, Tensor]]
    outputs: Callable[[State], int]
    options: Callable[[State], dict[str, Any]] = field(default=lambda state: {})
    coco: int = 91
    from_one: bool = True


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "torchvision's Faster R-CNN",
        ("faster_rcnn",),
        lambda state: torchvision.is_torchvision_rcnn(state) and not torchvision.has_masks(state),
        torchvision.rename_rcnn,
        lambda state: len(state["roi_heads.box_predictor.cls_score.weight"]),
        torchvision.rcnn_options,
    ),
    Layout(
        "torchvision's Mask R-CNN",
        ("mask_rcnn", "panoptic_fpn"),
        lambda state: torchvision.is_torchvision_rcnn(state) and torchvision.has_masks(state),
        torchvision.rename_rcnn,
        lambda state: len(state["roi_heads.box_predictor.cls_score.weight"]),
        torchvision.rcnn_options,
    ),
    Layout(
        "torchvision's RetinaNet",
        ("retinanet",),
        torchvision_dense.is_retinanet,
        torchvision_dense.rename_retinanet,
        torchvision_dense.dense_outputs,
        lambda state: {"variant": torchvision_dense.retinanet_variant(state)},
    ),
    Layout(
        "torchvision's FCOS",
        ("fcos",),
        torchvision_dense.is_fcos,
        torchvision_dense.rename_fcos,
        torchvision_dense.dense_outputs,
    ),
    Layout(
        "torchvision's SSD",
        ("ssd",),
        torchvision_ssd.is_ssd,
        torchvision_ssd.rename_ssd,
        torchvision_ssd.ssd_outputs,
        lambda state: {"trainable_stages": 4},
    ),
    Layout(
        "torchvision's SSDLite",
        ("ssdlite",),
        torchvision_ssd.is_ssdlite,
        torchvision_ssd.rename_ssdlite,
        torchvision_ssd.ssdlite_outputs,
        torchvision_ssd.ssdlite_options,
    ),
    *(
        Layout(
            f"torchvision's {name}",
            (model,),
            matches,
            rename,
            torchvision_semantic.outputs_of,
            torchvision_semantic.semantic_options,
            coco=21,
            from_one=False,
        )
        for name, model, matches, rename in (
            ("FCN", "fcn", torchvision_semantic.is_fcn, torchvision_semantic.rename_fcn),
            ("DeepLabV3", "deeplabv3", torchvision_semantic.is_deeplabv3, torchvision_semantic.rename_deeplabv3),
            ("LR-ASPP", "lraspp", torchvision_semantic.is_lraspp, torchvision_semantic.rename_lraspp),
        )
    ),
    Layout(
        "YOLOX",
        ("yolox",),
        yolox.is_yolox,
        yolox.rename_yolox,
        yolox.class_outputs,
        yolox.builder_options,
        coco=80,
        from_one=False,
    ),
)
"""Add a publisher by adding an entry; the first that matches is taken."""


def layout_of(state: State) -> Layout | None:
    """The foreign layout of a state dict, or None if it has none of these (our own names, for one)."""
    return next((layout for layout in LAYOUTS if layout.matches(state)), None)


def known_classes(outputs: int) -> Known | None:
    """What so many class outputs of a file trained on COCO stand for.

    Its 91 (torchvision: background, 80 real, 10 unused), its 80, or, of semantic models, the 21 of Pascal VOC.
    """
    voc = torchvision_semantic.voc_categories()
    if outputs == len(voc):
        return Known(voc, tuple(range(outputs)), outputs)
    categories, columns, all_outputs = torchvision.coco_categories()
    if outputs == all_outputs:
        return Known(categories, columns, all_outputs)
    if outputs == len(categories):
        return Known(categories, tuple(range(outputs)), outputs)
    return None
