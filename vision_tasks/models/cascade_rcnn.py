"""Cascade R-CNN and Cascade Mask R-CNN (Cai & Vasconcelos 2018) on a feature pyramid, with Detectron2's numbers."""

from __future__ import annotations

from typing import Literal

from torch import nn

from vision_tasks.heads.cascade_rcnn import CascadeRCNNHead
from vision_tasks.heads.roi_box import RoIBoxStage
from vision_tasks.heads.roi_mask import RoIMaskStage
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.rcnn_parts import body_and_pyramid, pooled_levels, proposals_on
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.box_coding import Weights
from vision_tasks.ops.detections import DetectionRule
from vision_tasks.ops.suppression import Method
from vision_tasks.structures import Categories

# Later stages correct smaller errors, so their targets are scaled up (Detectron2's and MMDetection's numbers).
_DELTA_WEIGHTS: tuple[Weights, ...] = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))


def cascade_rcnn(
    categories: Categories,
    masks: bool = False,
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
    overlaps: tuple[float, float, float] = (0.5, 0.6, 0.7),
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
    """Boxes by three stages, each trained on what the one before made of the proposals; and masks if wanted.

    Built with random weights. Each stage has one box for all classes; scores are the mean over the stages.

    Args:
        categories: what it detects, K of them.
        masks: whether it draws objects, too, as Mask R-CNN does. mask_channels: width of the mask head.
        overlaps: IoU from which a box counts as an object's, stage by stage.
        backbone, norm, norm_eps, trainable_stages, min_size, max_size, maps, channels, hidden, anchor_sizes,
        score_threshold, iou_threshold, detections_per_image, suppression, train_proposals, test_proposals,
        proposal_threshold, rois_per_image, columns, outputs: as in `faster_rcnn`.
    """
    body, neck = body_and_pyramid(backbone, norm, norm_eps, trainable_stages, maps, channels, None)
    levels, strides = pooled_levels(neck)
    outputs = outputs or len(categories) + 1
    stages = []
    for foreground, weights in zip(overlaps, _DELTA_WEIGHTS, strict=True):
        stage = RoIBoxStage(
            channels,
            levels,
            strides,
            outputs,
            hidden,
            class_agnostic=True,
            delta_weights=weights,
            beta=0,
            batch_per_image=rois_per_image,
            foreground=foreground,
        )
        # Detectron2's: a first guess of no correction, or three stages of chance would lead the boxes away.
        nn.init.normal_(stage.deltas.weight, std=0.001)
        nn.init.zeros_(stage.deltas.bias)
        stages.append(stage)
    head = CascadeRCNNHead(
        categories,
        columns or tuple(range(1, len(categories) + 1)),
        proposals_on(neck, backbone, anchor_sizes, train_proposals, test_proposals, proposal_threshold, depth=1),
        stages,
        DetectionRule(score_threshold, iou_threshold, detections_per_image, suppression=suppression, min_size=1e-2),
        RoIMaskStage(channels, levels, strides, outputs, mask_channels) if masks else None,
    )
    return VisionModel(Preprocess(min_size=min_size, max_size=max_size), body, neck, {"objects": head})
