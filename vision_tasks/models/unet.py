"""U-Net: the original (Ronneberger et al. 2015), and its decoder on any backbone."""

from __future__ import annotations

from typing import Any, Literal

from vision_tasks.backbones.base import NORMS
from vision_tasks.backbones.registry import build_backbone
from vision_tasks.backbones.unet import WIDTHS
from vision_tasks.heads.semantic import SemanticHead
from vision_tasks.heads.unet import UNetDecoder, Upsampling
from vision_tasks.models.semantic_parts import semantic_preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories


def unet(
    categories: Categories,
    backbone: str = "resnet34",
    norm: Literal["batch", "frozen", "sync", "none"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    widths: tuple[int, ...] | None = None,
    upsampling: Upsampling | None = None,
    dropout: float = 0.0,
    in_channels: int = 3,
    multi_label: bool = False,
    losses: dict[str, dict[str, Any]] = {"cross_entropy": {}},  # noqa: B006
    min_size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """A category for every pixel, drawn at full size from all maps of a backbone; on any backbone.

    Built with random weights. With a classification network as backbone, the numbers are those of
    segmentation_models_pytorch's `Unet`. With the backbone "unet" it is the paper's network (`norm="none"` for the
    letter of it), but with padded convolutions, so that it answers for the whole image and not for its middle only;
    "unet_32" and "unet_16" are the same with a half and a quarter of the channels.

    Args:
        categories: what a pixel can be, background among them, K of them. A single one is there or not.
        backbone: a name in `BACKBONES`. Levels it lacks are passed over: a ConvNeXt has no map at half the size.
        norm: of the backbone: "batch" (learns), "frozen", or "sync" (across GPUs); "none" with the backbone "unet". The
            decoder has batch norm, or "sync", or "none".
        norm_eps: added to the variance in the backbone's batch norm; None is what its ImageNet weights were trained
            with.
        trainable_stages: how many of the backbone's five stages learn, counted from the last.
        widths: channels after each doubling, coarsest first; None is 256, 128, 64, 32, 16, and with the backbone "unet"
            the width of its map of that size.
        upsampling: "nearest", or "transposed" (a 2×2 convolution that learns); None is the first, and with the backbone
            "unet" the second.
        dropout: share of the coarsest map's values left out in training.
        in_channels: of the images.
        multi_label: a pixel may be of several categories, or of none.
        losses: names in `losses.semantic.LOSSES`, with options each.
        min_size: pixels of the shorter side that images are resized to; None leaves them as they are.
        mean, std: per channel, of images scaled to 0..1; None is ImageNet's.
        columns: output that belongs to each category; default 0..K-1.
        outputs: number of class outputs; default K.

    Raises:
        ValueError: `norm="none"` with a network that is made with batch norm, or not one width a doubling.
    """
    original = backbone in WIDTHS
    if norm == "none" and not original:
        raise ValueError(
            f'norm="none" is for the backbones {", ".join(WIDTHS)}; {backbone} takes batch, frozen or sync'
        )
    body = build_backbone(backbone, norm, None, norm_eps, in_channels=in_channels)
    body.freeze(trainable_stages)
    coarsest = int(list(body.channels)[-1][1])
    if widths is None:
        widths = tuple(reversed(list(body.channels.values())[:-1])) if original else (256, 128, 64, 32, 16)[-coarsest:]
    layer = None if norm == "none" else NORMS["sync" if norm == "sync" else "batch"]
    decoder = UNetDecoder(
        body.channels,
        outputs or len(categories),
        widths,
        layer,
        upsampling or ("transposed" if original else "nearest"),
        kernel=1 if original else 3,
        dropout=dropout,
    )
    head = SemanticHead(categories, decoder, columns, multi_label, losses)
    # Maps that halve exactly lie over one another exactly on the way back.
    preprocess = semantic_preprocess(in_channels, min_size, mean=mean, std=std, stride=2**coarsest)
    return VisionModel(preprocess, body, None, {"semantic": head})
