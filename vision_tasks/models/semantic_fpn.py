"""Semantic FPN (Kirillov et al. 2019): a feature pyramid that draws maps."""

from __future__ import annotations

from typing import Any, Literal

from vision_tasks.backbones.registry import build_backbone
from vision_tasks.heads.semantic import SemanticHead
from vision_tasks.heads.semantic_fpn import SemanticFPNDecoder
from vision_tasks.models.semantic_parts import semantic_preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.necks.fpn import FPN
from vision_tasks.structures import Categories


def semantic_fpn(
    categories: Categories,
    backbone: str = "resnet50",
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    channels: int = 256,
    width: int = 128,
    groups: int = 32,
    in_channels: int = 3,
    multi_label: bool = False,
    losses: dict[str, dict[str, Any]] = {"cross_entropy": {}},  # noqa: B006
    min_size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """A category for every pixel, from a feature pyramid in the place of a dilated backbone.

    Built with random weights, and the paper's numbers unless told otherwise. On any backbone that has C2 to C5.

    Args:
        categories: what a pixel can be, background among them, K of them. A single one is there or not.
        backbone: a name in `BACKBONES`.
        norm: of the backbone: "batch" (learns), "frozen", or "sync" (across GPUs).
        norm_eps: added to the variance in the backbone's batch norm; None is what its ImageNet weights were trained
            with.
        trainable_stages: how many of the backbone's five stages learn, counted from the last.
        channels: width of the pyramid. width, groups: of the decoder's convolutions and their group norm.
        in_channels: of the images.
        multi_label: a pixel may be of several categories, or of none.
        losses: names in `losses.semantic.LOSSES`, with options each.
        min_size: pixels of the shorter side that images are resized to; None leaves them as they are.
        mean, std: per channel, of images scaled to 0..1; None is ImageNet's.
        columns: output that belongs to each category; default 0..K-1.
        outputs: number of class outputs; default K.
    """
    body = build_backbone(backbone, norm, ("C2", "C3", "C4", "C5"), norm_eps, in_channels=in_channels)
    body.freeze(trainable_stages)
    neck = FPN(body.channels, channels)
    levels = {level: neck.channels[level] for level in ("P2", "P3", "P4", "P5")}
    decoder = SemanticFPNDecoder(levels, outputs or len(categories), width, groups)
    head = SemanticHead(categories, decoder, columns, multi_label, losses)
    return VisionModel(semantic_preprocess(in_channels, min_size, mean=mean, std=std), body, neck, {"semantic": head})
