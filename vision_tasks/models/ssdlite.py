"""SSDLite (Sandler et al. 2018, section 6.2), with the numbers of torchvision's `ssdlite320_mobilenet_v3_large`."""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import nn

from vision_tasks.backbones.base import NORMS, Backbone
from vision_tasks.backbones.registry import backbone_builder
from vision_tasks.backbones.ssdlite_mobilenet import ssdlite_mobilenet_v3
from vision_tasks.heads.ssd import SSDHead
from vision_tasks.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.necks.ssd import ExtraMaps, separable_block
from vision_tasks.ops.detections import DetectionRule
from vision_tasks.ops.suppression import Method
from vision_tasks.structures import Categories

_WIDTHS = (512, 256, 256, 128)
_SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)  # evenly from 20 to 95 % of the image


def ssdlite(
    categories: Categories,
    size: int = 320,
    backbone: str = "mobilenet_v3_large",
    reduced_tail: bool = False,
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    score_threshold: float = 0.001,
    iou_threshold: float = 0.55,
    detections_per_image: int = 300,
    suppression: Method = "nms",
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """SSD of depthwise separable convolutions, for phones and small processors; on MobileNetV3 or another body.

    Built with random weights, and the numbers of torchvision's `ssdlite320_mobilenet_v3_large` unless told otherwise.

    Args:
        categories: what it detects, K of them.
        size: pixels; images are stretched to a square of this side.
        backbone: "mobilenet_v3_large", whose C4 is the expansion inside its 13th block, as published; or a name in
            `BACKBONES` that has C4 and C5.
        reduced_tail: MobileNetV3-Large with half the channels behind C4, as in the published COCO file (which brings
            this option along). ImageNet weights fit the full one.
        norm: of the backbone: "batch" (learns), "frozen", or "sync" (across GPUs). The rest has batch norm, or "sync".
        norm_eps: added to the variance in the backbone's batch norm; None is its own: 0.001 in MobileNetV3.
        trainable_stages: how many of the backbone's five stages learn, counted from the last.
        score_threshold: detections must exceed it. iou_threshold: of suppression, which sees the best 300 of a class.
        detections_per_image: at most. suppression: see `ops.suppression.Method`.
        columns: output that belongs to each category; default 1..K (0 is background).
        outputs: number of class outputs; default K + 1.
    """
    layer = partial(NORMS["sync" if norm == "sync" else "batch"], eps=1e-3, momentum=0.03)
    if backbone == "mobilenet_v3_large":
        body: Backbone = ssdlite_mobilenet_v3(norm, 1e-3 if norm_eps is None else norm_eps, reduced_tail)
        _initialise(body)
    else:
        body = backbone_builder(backbone)(norm, ("C4", "C5"), norm_eps)
    body.freeze(trainable_stages)
    inputs = (body.channels["C5"], *_WIDTHS)
    neck = ExtraMaps("C5", [(c, separable_block(b, c, layer)) for b, c in zip(inputs, _WIDTHS, strict=False)])
    head = SSDHead(
        categories,
        columns or tuple(range(1, len(categories) + 1)),
        {**body.channels, **neck.channels},
        _SCALES,
        [(2, 3)] * 6,
        outputs or len(categories) + 1,
        DetectionRule(
            score_threshold, iou_threshold, detections_per_image,
            candidates=300, candidates_per="category", suppression=suppression,
        ),
        separable=True,
        layer=layer,
    )  # fmt: skip
    _initialise(neck)
    _initialise(head)
    # To -1..1, as the published body was trained.
    # torchvision trained its SSDLite from random weights, on pixels in -1..1; other bodies come with ImageNet weights.
    published = backbone == "mobilenet_v3_large"
    mean, std = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) if published else (IMAGENET_MEAN, IMAGENET_STD)
    preprocess = Preprocess(resize="stretch", size=(size, size), stride=1, mean=mean, std=std)
    return VisionModel(preprocess, body, neck, {"objects": head})


def _initialise(module: nn.Module) -> None:
    """Convolutions normal with a deviation of 0.03, biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.03)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
