"""FCOS (Tian et al. 2020) on a feature pyramid, with the numbers of torchvision's `fcos_resnet50_fpn`."""

from __future__ import annotations

from typing import Literal

from vision_tasks.backbones.registry import build_backbone
from vision_tasks.heads.fcos import FCOSHead
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.necks.fpn import FPN
from vision_tasks.ops.detections import DetectionRule
from vision_tasks.ops.suppression import Method
from vision_tasks.structures import Categories


def fcos(
    categories: Categories,
    backbone: str = "resnet50",
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    channels: int = 256,
    score_threshold: float = 0.2,
    iou_threshold: float = 0.6,
    detections_per_image: int = 100,
    suppression: Method = "nms",
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """Boxes in one stage and without anchors; on any backbone that has C3 to C5.

    Built with random weights, and the numbers of torchvision's `fcos_resnet50_fpn` unless told otherwise.

    Args:
        categories: what it detects, K of them.
        backbone: a name in `BACKBONES`.
        norm: "batch" (learns), "frozen" (for pretrained weights and small batches), or "sync" (across GPUs).
        norm_eps: added to the variance in batch norm; None is what the backbone's ImageNet weights were trained with.
        trainable_stages: how many of the backbone's five stages learn, counted from the last.
        min_size, max_size: pixels; the shorter side becomes min_size, unless the longer one would pass max_size.
        channels: width of the pyramid and of the head.
        score_threshold: detections must exceed it. iou_threshold: of suppression.
        detections_per_image: at most. suppression: see `ops.suppression.Method`.
        columns: output that belongs to each category; default 0..K-1.
        outputs: number of class outputs; default K.
    """
    body = build_backbone(backbone, norm, ("C3", "C4", "C5"), norm_eps)
    body.freeze(trainable_stages)
    neck = FPN(body.channels, channels, coarser="from_p")
    head = FCOSHead(
        categories,
        columns or tuple(range(len(categories))),
        channels,
        tuple(neck.channels),
        (8, 16, 32, 64, 128),
        outputs or len(categories),
        DetectionRule(score_threshold, iou_threshold, detections_per_image, candidates=1000, suppression=suppression),
    )
    return VisionModel(Preprocess(min_size=min_size, max_size=max_size), body, neck, {"objects": head})
