"""PSPNet (Zhao et al. 2017) on a dilated backbone."""

from __future__ import annotations

from typing import Any, Literal

from vision_tasks.backbones.base import NORMS
from vision_tasks.backbones.registry import build_backbone
from vision_tasks.heads.fcn import FCNDecoder
from vision_tasks.heads.psp import SIZES, PSPDecoder
from vision_tasks.heads.semantic import SemanticHead
from vision_tasks.models.semantic_parts import semantic_preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories


def pspnet(
    categories: Categories,
    backbone: str = "resnet50",
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    output_stride: Literal[8, 16, 32] = 8,
    sizes: tuple[int, ...] = SIZES,
    width: int = 512,
    auxiliary: bool = True,
    in_channels: int = 3,
    multi_label: bool = False,
    losses: dict[str, dict[str, Any]] = {"cross_entropy": {}},  # noqa: B006
    min_size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """A category for every pixel, from a map beside its means over large parts of the image.

    Built with random weights, and the paper's numbers unless told otherwise, on torchvision's ResNet (the authors' has
    three 3×3 convolutions in the place of the first 7×7). On any backbone that has C4 and C5.

    Args:
        categories: what a pixel can be, background among them, K of them. A single one is there or not.
        backbone: a name in `BACKBONES`.
        norm: of the backbone: "batch" (learns), "frozen", or "sync" (across GPUs). The rest has batch norm, or "sync".
        norm_eps: added to the variance in the backbone's batch norm; None is what its ImageNet weights were trained
            with.
        trainable_stages: how many of the backbone's five stages learn, counted from the last.
        output_stride: pixels per cell of the backbone's last map.
        sizes: into how many parts each way the map is averaged. width: channels before the last convolution.
        auxiliary: a second decoder, on C4, that learns along and does not predict.
        in_channels: of the images.
        multi_label: a pixel may be of several categories, or of none.
        losses: names in `losses.semantic.LOSSES`, with options each.
        min_size: pixels of the shorter side that images are resized to; None leaves them as they are.
        mean, std: per channel, of images scaled to 0..1; None is ImageNet's.
        columns: output that belongs to each category; default 0..K-1.
        outputs: number of class outputs; default K.
    """
    body = build_backbone(backbone, norm, ("C4", "C5") if auxiliary else ("C5",), norm_eps, output_stride, in_channels)
    body.freeze(trainable_stages)
    number, layer = outputs or len(categories), NORMS["sync" if norm == "sync" else "batch"]
    decoder = PSPDecoder("C5", body.channels["C5"], number, layer, width, sizes)
    second = FCNDecoder("C4", body.channels["C4"], number, layer) if auxiliary else None
    head = SemanticHead(categories, decoder, columns, multi_label, losses, second)
    preprocess = semantic_preprocess(in_channels, min_size, mean=mean, std=std, stride=1)
    return VisionModel(preprocess, body, None, {"semantic": head})
