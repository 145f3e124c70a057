"""DeepLabV3+ (Chen et al. 2018): DeepLabV3 with a small decoder that brings back the edges."""

from __future__ import annotations

from typing import Any, Literal

from vision_tasks.backbones.base import NORMS
from vision_tasks.backbones.registry import build_backbone
from vision_tasks.heads.aspp import RATES, DeepLabV3PlusDecoder
from vision_tasks.heads.fcn import FCNDecoder
from vision_tasks.heads.semantic import SemanticHead
from vision_tasks.models.semantic_parts import semantic_preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories


def deeplabv3plus(
    categories: Categories,
    backbone: str = "resnet50",
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    output_stride: Literal[8, 16, 32] = 16,
    rates: tuple[int, ...] | None = None,
    width: int = 256,
    separable: bool = True,
    auxiliary: bool = False,
    in_channels: int = 3,
    multi_label: bool = False,
    losses: dict[str, dict[str, Any]] = {"cross_entropy": {}},  # noqa: B006
    min_size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """A category for every pixel: DeepLabV3 joined with an early map; on any backbone that has C2 and C5.

    Built with random weights, and the paper's numbers unless told otherwise: the early map (C2, at 1/4 of the size)
    with 48 channels, two 3×3 convolutions of 256 after the two are joined. segmentation_models_pytorch's has one of
    them there and one before the maps are joined, and resizes with aligned corners.

    Args:
        categories: what a pixel can be, background among them, K of them. A single one is there or not.
        backbone: a name in `BACKBONES`.
        norm: of the backbone: "batch" (learns), "frozen", or "sync" (across GPUs). The rest has batch norm, or "sync".
        norm_eps: added to the variance in the backbone's batch norm; None is what its ImageNet weights were trained
            with.
        trainable_stages: how many of the backbone's five stages learn, counted from the last.
        output_stride: pixels per cell of the backbone's last map.
        rates: dilations of the pyramid; None is 6, 12, 18 at an output stride of 16, twice that at 8.
        width: channels of the decoder.
        separable: 3×3 convolutions of the decoder filter each channel by itself before they mix them.
        auxiliary: a second decoder, on C4, that learns along and does not predict.
        in_channels: of the images.
        multi_label: a pixel may be of several categories, or of none.
        losses: names in `losses.semantic.LOSSES`, with options each.
        min_size: pixels of the shorter side that images are resized to; None leaves them as they are.
        mean, std: per channel, of images scaled to 0..1; None is ImageNet's.
        columns: output that belongs to each category; default 0..K-1.
        outputs: number of class outputs; default K.
    """
    levels = ("C2", "C4", "C5") if auxiliary else ("C2", "C5")
    body = build_backbone(backbone, norm, levels, norm_eps, output_stride, in_channels)
    body.freeze(trainable_stages)
    number, layer = outputs or len(categories), NORMS["sync" if norm == "sync" else "batch"]
    decoder = DeepLabV3PlusDecoder(
        "C2", "C5", body.channels, number, rates or RATES[output_stride], layer, width, separable=separable
    )
    second = FCNDecoder("C4", body.channels["C4"], number, layer) if auxiliary else None
    head = SemanticHead(categories, decoder, columns, multi_label, losses, second)
    preprocess = semantic_preprocess(in_channels, min_size, mean=mean, std=std, stride=1)
    return VisionModel(preprocess, body, None, {"semantic": head})
