"""Faster R-CNN (Ren et al. 2015) on a feature pyramid, with the numbers of torchvision's `fasterrcnn_resnet50_fpn`."""

from __future__ import annotations

from typing import Literal

from vision_tasks.backbones.registry import BACKBONES
from vision_tasks.heads.faster_rcnn import FasterRCNNHead
from vision_tasks.heads.roi_box import RoIBoxStage
from vision_tasks.heads.rpn import RPN
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.necks.fpn import FPN
from vision_tasks.structures import Categories


def faster_rcnn(
    categories: Categories,
    backbone: str = "resnet50",
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float = 1e-5,
    trainable_stages: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    channels: int = 256,
    hidden: int = 1024,
    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512),
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    detections_per_image: int = 100,
    train_proposals: tuple[int, int] = (2000, 2000),
    test_proposals: tuple[int, int] = (1000, 1000),
    rois_per_image: int = 512,
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """Boxes by region proposals and a second look at each; on ResNet-FPN or MobileNet-FPN.

    Built with random weights, and the numbers of torchvision's `fasterrcnn_resnet50_fpn` unless told otherwise.

    Args:
        categories: what it detects, K of them.
        backbone: a name in `BACKBONES`.
        norm: "batch" (learns), "frozen" (for pretrained weights and small batches), or "sync" (across GPUs).
        norm_eps: added to the variance in batch norm; torchvision's published COCO file wants 0.
        trainable_stages: how many of the backbone's five stages learn, counted from the last.
        min_size, max_size: pixels; the shorter side becomes min_size, unless the longer one would pass max_size.
        channels: width of the pyramid. hidden: width of the box head's two layers.
        anchor_sizes: side of the anchors on P2..P6, pixels.
        score_threshold: detections must exceed it. iou_threshold: suppression within a class.
        detections_per_image: at most.
        train_proposals, test_proposals: that a level may send to suppression, that an image keeps.
        rois_per_image: proposals the second stage trains on.
        columns: output that belongs to each category; default 1..K (0 is background).
        outputs: number of class outputs; default K + 1.
    """
    levels = ("P2", "P3", "P4", "P5", "P6")
    body = BACKBONES[backbone](norm, ("C2", "C3", "C4", "C5"), norm_eps)
    body.freeze(trainable_stages)
    neck = FPN(body.channels, channels)
    columns = columns or tuple(range(1, len(categories) + 1))
    head = FasterRCNNHead(
        categories,
        columns,
        RPN(channels, levels, anchor_sizes, train_top=train_proposals, test_top=test_proposals),
        RoIBoxStage(
            channels,
            levels[:4],
            (4, 8, 16, 32),
            outputs or len(categories) + 1,
            hidden,
            batch_per_image=rois_per_image,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            detections_per_image=detections_per_image,
        ),
    )
    return VisionModel(Preprocess(min_size, max_size), body, neck, {"objects": head})
