"""Mask R-CNN (He et al. 2017) on a feature pyramid, with the numbers of torchvision's `maskrcnn_resnet50_fpn`."""

from __future__ import annotations

from typing import Literal

from vision_tasks.heads.faster_rcnn import FasterRCNNHead
from vision_tasks.heads.roi_box import RoIBoxStage
from vision_tasks.heads.roi_mask import RoIMaskStage
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.rcnn_parts import body_and_pyramid, learning_norm, pooled_levels, proposals_on
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.detections import DetectionRule
from vision_tasks.ops.suppression import Method
from vision_tasks.structures import Categories


def mask_rcnn(
    categories: Categories,
    variant: Literal["v1", "v2"] = "v1",
    backbone: str = "resnet50",
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    maps: tuple[str, ...] | None = None,
    channels: int = 256,
    hidden: int = 1024,
    mask_channels: int = 256,
    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512),
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    detections_per_image: int = 100,
    suppression: Method = "nms",
    train_proposals: tuple[int, int] = (2000, 2000),
    test_proposals: tuple[int, int] = (1000, 1000),
    proposal_threshold: float | None = None,
    rois_per_image: int = 512,
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """Boxes and masks of objects: Faster R-CNN, and a small convolutional network that draws each detected object.

    Built with random weights, and the numbers of torchvision's `maskrcnn_resnet50_fpn` unless told otherwise.

    Args:
        categories: what it detects, K of them.
        variant: "v2" is torchvision's `maskrcnn_resnet50_fpn_v2`: a deeper RPN and box head, batch norm in pyramid and
            heads.
        mask_channels: width of the mask head.
        backbone, norm, norm_eps, trainable_stages, min_size, max_size, maps, channels, hidden, anchor_sizes,
        score_threshold, iou_threshold, detections_per_image, suppression, train_proposals, test_proposals,
        proposal_threshold, rois_per_image, columns, outputs: as in `faster_rcnn`.
    """
    deep = variant == "v2"
    new_norm = learning_norm(norm) if deep else None
    body, neck = body_and_pyramid(backbone, norm, norm_eps, trainable_stages, maps, channels, new_norm)
    levels, strides = pooled_levels(neck)
    outputs = outputs or len(categories) + 1
    head = FasterRCNNHead(
        categories,
        columns or tuple(range(1, len(categories) + 1)),
        proposals_on(
            neck, backbone, anchor_sizes, train_proposals, test_proposals, proposal_threshold, depth=2 if deep else 1
        ),
        RoIBoxStage(
            channels,
            levels,
            strides,
            outputs,
            hidden,
            depth=4 if deep else 0,
            norm=new_norm,
            batch_per_image=rois_per_image,
        ),
        DetectionRule(score_threshold, iou_threshold, detections_per_image, suppression=suppression, min_size=1e-2),
        RoIMaskStage(channels, levels, strides, outputs, mask_channels, norm=new_norm),
    )
    return VisionModel(Preprocess(min_size=min_size, max_size=max_size), body, neck, {"objects": head})
