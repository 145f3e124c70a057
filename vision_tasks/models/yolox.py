"""YOLOX (Ge et al. 2021) in its six sizes, with the numbers of its published models."""

from __future__ import annotations

from typing import Literal

from vision_tasks.backbones.chain import set_norm
from vision_tasks.backbones.csp_darknet import SCALES
from vision_tasks.backbones.registry import build_backbone
from vision_tasks.heads.yolox import YOLOXHead
from vision_tasks.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.necks.pafpn import PAFPN
from vision_tasks.ops.detections import DetectionRule
from vision_tasks.ops.suppression import Method
from vision_tasks.structures import Categories

LEVELS = ("C3", "C4", "C5")
GREY = 114 / 255  # what YOLO pads with since YOLOv5


def yolox(
    categories: Categories,
    variant: Literal["nano", "tiny", "s", "m", "l", "x"] = "s",
    backbone: str | None = None,
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    size: int | tuple[int, int] | None = None,
    center_radius: float = 2.5,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.65,
    detections_per_image: int = 100,
    suppression: Method = "nms",
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """Boxes in one stage and without anchors: CSPDarknet, a path aggregation pyramid, a decoupled head, SimOTA.

    Args:
        categories: what it detects, K of them.
        variant: depth and width of all three parts; "nano" has depthwise convolutions.
        backbone: a name in `BACKBONES` that has C3 to C5, below the variant's pyramid and head; default CSPDarknet of
            the variant. YOLOX's own takes BGR pixels in 0..255, any other RGB normalised as for ImageNet.
        norm: "batch" (learns), "frozen" (for pretrained weights and small batches), or "sync" (across GPUs). Beside a
            backbone of another kind, "frozen" is its norm only: pyramid and head, which nobody trained, learn.
        norm_eps: added to the variance in batch norm; default the published, 1e-3 in YOLOX's own parts.
        trainable_stages: how many of the backbone's five stages learn, counted from the last.
        size: of the canvas in pixels: its side, or (height, width); multiples of 32. Images are letterboxed into its
            top left corner. Default 416 for "nano" and "tiny", 640 for the others.
        center_radius: strides from an object's centre within which a cell may answer for it.
        score_threshold: detections must exceed it. iou_threshold: of suppression.
        detections_per_image: at most. suppression: see `ops.suppression.Method`.
        columns: output that belongs to each category; default 0..K-1.
        outputs: number of class outputs; default K.
    """
    if variant not in SCALES:
        raise ValueError(f"variant must be one of {', '.join(SCALES)}, not {variant!r}")
    depth_factor, width_factor, depthwise = SCALES[variant]
    backbone = backbone or f"csp_darknet_{variant}"
    own = backbone.startswith("csp_darknet_")
    body = build_backbone(backbone, norm, LEVELS, norm_eps)
    body.freeze(trainable_stages)
    widths = tuple(int(width * width_factor) for width in (256, 512, 1024))
    neck = PAFPN(body.channels, widths, round(3 * depth_factor), depthwise)
    head = YOLOXHead(
        categories,
        tuple(neck.channels),
        columns or tuple(range(len(categories))),
        DetectionRule(score_threshold, iou_threshold, detections_per_image, suppression=suppression, clip=False),
        widths,
        (8, 16, 32),
        widths[0],
        outputs or len(categories),
        depthwise,
        center_radius=center_radius,
    )
    for part in (neck, head):
        set_norm(part, norm if own or norm == "sync" else "batch", norm_eps if own else None)
    size = size or (416 if variant in ("nano", "tiny") else 640)
    preprocess = Preprocess(
        resize="letterbox",
        size=(size, size) if isinstance(size, int) else (size[0], size[1]),
        mean=(0.0, 0.0, 0.0) if own else IMAGENET_MEAN,
        std=(1 / 255, 1 / 255, 1 / 255) if own else IMAGENET_STD,
        channel_order="bgr" if own else "rgb",
        pad_value=GREY,
    )
    return VisionModel(preprocess, body, neck, {"objects": head})
