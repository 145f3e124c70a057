"""LR-ASPP on MobileNetV3 (Howard et al. 2019), with the numbers of torchvision's `lraspp_mobilenet_v3_large`."""

from __future__ import annotations

from typing import Any, Literal

from vision_tasks.backbones.base import NORMS
from vision_tasks.backbones.registry import build_backbone
from vision_tasks.heads.lraspp import LRASPPDecoder
from vision_tasks.heads.semantic import SemanticHead
from vision_tasks.models.semantic_parts import semantic_preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories


def lraspp(
    categories: Categories,
    backbone: str = "mobilenet_v3_large",
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    output_stride: Literal[8, 16, 32] = 16,
    width: int = 128,
    in_channels: int = 3,
    multi_label: bool = False,
    losses: dict[str, dict[str, Any]] = {"cross_entropy": {}},  # noqa: B006
    min_size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """A category for every pixel at little cost, for phones and small processors; on any backbone with C3 and C5.

    Built with random weights, and the numbers of torchvision's `lraspp_mobilenet_v3_large` unless told otherwise.

    Args:
        categories: what a pixel can be, background among them, K of them. A single one is there or not.
        backbone: a name in `BACKBONES`. Of a MobileNet the first block at 1/8 of the size is read, as published, of
            others the last.
        norm: of the backbone: "batch" (learns), "frozen", or "sync" (across GPUs). The rest has batch norm, or "sync".
        norm_eps: added to the variance in the backbone's batch norm; None is what its ImageNet weights were trained
            with.
        trainable_stages: how many of the backbone's five stages learn, counted from the last.
        output_stride: pixels per cell of the backbone's last map.
        width: channels of the decoder.
        in_channels: of the images.
        multi_label: a pixel may be of several categories, or of none.
        losses: names in `losses.semantic.LOSSES`, with options each.
        min_size: pixels of the shorter side that images are resized to; None leaves them as they are.
        mean, std: per channel, of images scaled to 0..1; None is ImageNet's.
        columns: output that belongs to each category; default 0..K-1.
        outputs: number of class outputs; default K.
    """
    fine = "C3_first" if backbone.startswith("mobilenet_") else "C3"
    body = build_backbone(backbone, norm, (fine, "C5"), norm_eps, output_stride, in_channels)
    body.freeze(trainable_stages)
    layer = NORMS["sync" if norm == "sync" else "batch"]
    decoder = LRASPPDecoder(fine, "C5", body.channels, outputs or len(categories), layer, width)
    head = SemanticHead(categories, decoder, columns, multi_label, losses)
    preprocess = semantic_preprocess(in_channels, min_size, mean=mean, std=std, stride=1)
    return VisionModel(preprocess, body, None, {"semantic": head})
