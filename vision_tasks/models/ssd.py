"""SSD300 and SSD512 (Liu et al. 2016), with the numbers of torchvision's `ssd300_vgg16` and of the authors' code."""

from __future__ import annotations

from typing import Literal

from torch import nn

from vision_tasks.backbones.registry import backbone_builder
from vision_tasks.heads.ssd import SSDHead
from vision_tasks.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.necks.ssd import AtrousVGGNeck, ExtraMaps, plain_block
from vision_tasks.ops.detections import DetectionRule
from vision_tasks.ops.suppression import Method
from vision_tasks.structures import Categories

# Default boxes on COCO. SSD512's are those of the authors' ssd_coco_512.py: 4 %, then 10 to 90 %.
_SCALES = {
    300: (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
    512: (0.04, 0.10, 0.26, 0.42, 0.58, 0.74, 0.90, 1.06),
}
_RATIOS = {300: ((2,), *[(2, 3)] * 3, (2,), (2,)), 512: ((2,), *[(2, 3)] * 4, (2,), (2,))}
_STRIDES = {300: (8, 16, 32, 64, 100, 300), 512: (8, 16, 32, 64, 128, 256, 512)}
# (width within, width, kernel, stride, padding) of the maps behind fc7: 19 to 10, 5, 3, 1; or 32 to 16, 8, 4, 2, 1.
_HALVING = [(256, 512, 3, 2, 1), (128, 256, 3, 2, 1)]
_BLOCKS = {
    300: [*_HALVING, (128, 256, 3, 1, 0), (128, 256, 3, 1, 0)],
    512: [*_HALVING, (128, 256, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 4, 1, 1)],
}


def ssd(
    categories: Categories,
    size: int = 300,
    backbone: str = "vgg16",
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.45,
    detections_per_image: int = 200,
    suppression: Method = "nms",
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """Boxes in one stage, from default boxes on six or seven maps of a backbone that is continued.

    Built with random weights, and the numbers of torchvision's `ssd300_vgg16` unless told otherwise.

    Args:
        categories: what it detects, K of them.
        size: pixels; images are stretched to a square of this side. 300 and 512 are the published ones; with 512 or
            more there are seven maps, otherwise six.
        backbone: a name in `BACKBONES`. "vgg16" is the published one: conv4_3 is rescaled, fc6 and fc7 become
            convolutions, as with every VGG. Of others C3 to C5 are read as they are.
        norm: of a backbone with batch norm: "batch" (learns), "frozen", or "sync" (across GPUs).
        norm_eps: added to the variance in batch norm; None is the backbone's own.
        trainable_stages: how many of the backbone's five stages learn, counted from the last.
        score_threshold: detections must exceed it. iou_threshold: of suppression, which sees the best 400 of a class.
        detections_per_image: at most. suppression: see `ops.suppression.Method`.
        columns: output that belongs to each category; default 1..K (0 is background).
        outputs: number of class outputs; default K + 1.
    """
    published = 512 if size >= 512 else 300
    neck: AtrousVGGNeck | ExtraMaps
    if backbone.startswith("vgg"):
        if size < 300:
            raise ValueError(f"size {size}: SSD on {backbone} needs 300 pixels or more for its last map to have a cell")
        body = backbone_builder(backbone)(norm, ("C3", "C4"), norm_eps)
        # The third pooling rounds up, so that 300 pixels make 38 cells.
        [module for module in body.modules() if isinstance(module, nn.MaxPool2d)][2].ceil_mode = True
        neck = AtrousVGGNeck(_blocks(1024, _BLOCKS[published]))
        in_channels = neck.channels
        mean, std = (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)
    else:
        body = backbone_builder(backbone)(norm, ("C3", "C4", "C5"), norm_eps)
        further = len(_RATIOS[published]) - 3
        neck = ExtraMaps("C5", _blocks(body.channels["C5"], [(128, 256, 3, 2, 1)] * further))
        in_channels = {**body.channels, **neck.channels}
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    body.freeze(trainable_stages)
    head = SSDHead(
        categories,
        columns or tuple(range(1, len(categories) + 1)),
        in_channels,
        _SCALES[published],
        _RATIOS[published],
        outputs or len(categories) + 1,
        DetectionRule(
            score_threshold, iou_threshold, detections_per_image,
            candidates=400, candidates_per="category", suppression=suppression,
        ),
        strides=_STRIDES.get(size) if backbone.startswith("vgg") else None,
    )  # fmt: skip
    for part in (*neck.modules(), *head.modules()):
        if isinstance(part, nn.Conv2d):
            nn.init.xavier_uniform_(part.weight)
            assert part.bias is not None
            nn.init.zeros_(part.bias)
    preprocess = Preprocess(resize="stretch", size=(size, size), stride=1, mean=mean, std=std)
    return VisionModel(preprocess, body, neck, {"objects": head})


def _blocks(in_channels: int, numbers: list[tuple[int, int, int, int, int]]) -> list[tuple[int, nn.Module]]:
    """(channels, block) of each further map."""
    blocks = []
    for hidden, channels, kernel, stride, padding in numbers:
        blocks.append((channels, plain_block(in_channels, hidden, channels, kernel, stride, padding)))
        in_channels = channels
    return blocks
