"""RetinaNet (Lin et al. 2017) on a feature pyramid, with the numbers of torchvision's `retinanet_resnet50_fpn`."""

from __future__ import annotations

from typing import Literal

from vision_tasks.backbones.registry import build_backbone
from vision_tasks.heads.retinanet import RetinaNetHead
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.necks.fpn import FPN
from vision_tasks.ops.detections import DetectionRule
from vision_tasks.ops.suppression import Method
from vision_tasks.structures import Categories


def retinanet(
    categories: Categories,
    variant: Literal["v1", "v2"] = "v1",
    backbone: str = "resnet50",
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    channels: int = 256,
    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512),
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    detections_per_image: int = 300,
    suppression: Method = "nms",
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """Boxes in one stage, from nine anchors at every cell; on any backbone that has C3 to C5.

    Built with random weights, and the numbers of torchvision's `retinanet_resnet50_fpn` unless told otherwise.

    Args:
        categories: what it detects, K of them.
        variant: "v2" is torchvision's `retinanet_resnet50_fpn_v2`: group norm in the head, P6 from C5, GIoU loss.
        backbone: a name in `BACKBONES`.
        norm: "batch" (learns), "frozen" (for pretrained weights and small batches), or "sync" (across GPUs).
        norm_eps: added to the variance in batch norm; None is the backbone's own; torchvision's v1 file wants 0.
        trainable_stages: how many of the backbone's five stages learn, counted from the last.
        min_size, max_size: pixels; the shorter side becomes min_size, unless the longer one would pass max_size.
        channels: width of the pyramid and of the head.
        anchor_sizes: smallest side of the anchors on P3..P7, pixels; each has two more, 2^(1/3) and 2^(2/3) as large.
        score_threshold: detections must exceed it. iou_threshold: of suppression.
        detections_per_image: at most. suppression: see `ops.suppression.Method`.
        columns: output that belongs to each category; default 0..K-1.
        outputs: number of class outputs; default K.
    """
    body = build_backbone(backbone, norm, ("C3", "C4", "C5"), norm_eps)
    body.freeze(trainable_stages)
    neck = FPN(body.channels, channels, coarser="from_p" if variant == "v1" else "from_c")
    # Whole pixels, as in torchvision: 32, 40, 50.
    sizes = [(size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))) for size in anchor_sizes]
    head = RetinaNetHead(
        categories,
        columns or tuple(range(len(categories))),
        channels,
        tuple(neck.channels),
        sizes,
        outputs or len(categories),
        DetectionRule(score_threshold, iou_threshold, detections_per_image, candidates=1000, suppression=suppression),
        norm=variant == "v2",
        box_loss="l1" if variant == "v1" else "giou",
    )
    return VisionModel(Preprocess(min_size=min_size, max_size=max_size), body, neck, {"objects": head})
