"""Faster R-CNN (Ren et al. 2015) on a feature pyramid, with the numbers of torchvision's `fasterrcnn_*_fpn`."""

from __future__ import annotations

from typing import Literal

from vision_tasks.heads.faster_rcnn import FasterRCNNHead
from vision_tasks.heads.roi_box import RoIBoxStage
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.rcnn_parts import body_and_pyramid, learning_norm, pooled_levels, proposals_on
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.detections import DetectionRule
from vision_tasks.ops.suppression import Method
from vision_tasks.structures import Categories


def faster_rcnn(
    categories: Categories,
    variant: Literal["v1", "v2", "320px"] = "v1",
    backbone: str = "resnet50",
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    min_size: int | None = None,
    max_size: int | None = None,
    maps: tuple[str, ...] | None = None,
    channels: int = 256,
    hidden: int = 1024,
    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512),
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    detections_per_image: int = 100,
    suppression: Method = "nms",
    train_proposals: tuple[int, int] = (2000, 2000),
    test_proposals: tuple[int, int] | None = None,
    proposal_threshold: float | None = None,
    rois_per_image: int = 512,
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """Boxes by region proposals and a second look at each; on any backbone with a feature pyramid.

    Built with random weights, and the numbers of torchvision's `fasterrcnn_resnet50_fpn` unless told otherwise; with
    backbone "mobilenet_v3_large" those of `fasterrcnn_mobilenet_v3_large_fpn`.

    Args:
        categories: what it detects, K of them.
        variant: "v2" is torchvision's `fasterrcnn_resnet50_fpn_v2`: a deeper RPN and box head, batch norm in pyramid
            and head. "320px" is its MobileNet for small images: 320 pixels, 150 proposals.
        backbone: a name in `BACKBONES`.
        norm: of the backbone: "batch" (learns), "frozen" (for pretrained weights, small batches), "sync" (across GPUs).
        norm_eps: added to the variance in batch norm; None is the backbone's own, for mobilenet_v3_large torchvision's
            1e-5; torchvision's published COCO file of v1 wants 0.
        trainable_stages: how many of the backbone's five stages learn, counted from the last.
        min_size, max_size: pixels; the shorter side becomes min_size, unless the longer one would pass max_size. None
            is 800 and 1333, for "320px" 320 and 640.
        maps: of the backbone that the pyramid stands on; None is C2 to C5, for mobilenet_v3_large C5_first and C5.
        channels: width of the pyramid. hidden: width of the box head's layers.
        anchor_sizes: side of the anchors in pixels, one for each level of the pyramid (P2..P6). The levels on C5_first
            and C5 are equally fine: there every level has them all.
        score_threshold: detections must exceed it. iou_threshold: of suppression, within a class.
        detections_per_image: at most. suppression: see `ops.suppression.Method`.
        train_proposals, test_proposals: that a level may send to suppression, that an image keeps. None is 1000 of
            both, for "320px" 150.
        proposal_threshold: objectness a proposal must reach; None is 0.05 for mobilenet_v3_large and 0 for others.
        rois_per_image: proposals the second stage trains on.
        columns: output that belongs to each category; default 1..K (0 is background).
        outputs: number of class outputs; default K + 1.
    """
    deep, small = variant == "v2", variant == "320px"
    new_norm = learning_norm(norm) if deep else None
    body, neck = body_and_pyramid(backbone, norm, norm_eps, trainable_stages, maps, channels, new_norm)
    kept = test_proposals or ((150, 150) if small else (1000, 1000))
    head = FasterRCNNHead(
        categories,
        columns or tuple(range(1, len(categories) + 1)),
        proposals_on(neck, backbone, anchor_sizes, train_proposals, kept, proposal_threshold, depth=2 if deep else 1),
        RoIBoxStage(
            channels,
            *pooled_levels(neck),
            outputs or len(categories) + 1,
            hidden,
            depth=4 if deep else 0,
            norm=new_norm,
            batch_per_image=rois_per_image,
        ),
        DetectionRule(score_threshold, iou_threshold, detections_per_image, suppression=suppression, min_size=1e-2),
    )
    shorter, longer = (320, 640) if small else (800, 1333)
    preprocess = Preprocess(min_size=min_size or shorter, max_size=max_size or longer)
    return VisionModel(preprocess, body, neck, {"objects": head})
