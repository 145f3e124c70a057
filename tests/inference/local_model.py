"""A semantic model whose every score depends on pixels within a known radius, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vision_tasks.backbones.base import Backbone
from vision_tasks.heads.semantic import Decoder, SemanticHead
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories


class LocalBackbone(Backbone):
    """3 × 3 convolutions one after another, with these strides."""

    def __init__(self, strides: Sequence[int], in_channels: int) -> None:
        super().__init__({"C1": 8})
        widths = [in_channels] + [8] * len(strides)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(widths[i], widths[i + 1], 3, stride, 1), nn.GELU())
                for i, stride in enumerate(strides)
            )
        )

    def stages(self) -> list[tuple[str, list[nn.Module]]]:
        return [("C1", [self.layers])]


class LocalDecoder(Decoder):
    """One score per output and cell."""

    levels = ("C1",)

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(8, outputs, 1)

    def forward(self, features: dict[str, Tensor], canvas: tuple[int, int]) -> Tensor:
        return self.classifier(features["C1"])

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        return {"classifier.weight": (1, 1), "classifier.bias": (1, 1)}


def local_model(
    strides: Sequence[int] = (1, 2, 1, 2), names: Sequence[str] = "abcde", multi_label: bool = False, **preprocess: Any
) -> VisionModel:
    """Random weights bold enough that the scores vary from cell to cell."""
    torch.manual_seed(0)
    stride = int(torch.tensor(strides).prod())
    rule = Preprocess(**({"resize": "none", "stride": max(stride, 2)} | preprocess))
    backbone = LocalBackbone(strides, len(rule.mean))
    head = SemanticHead(Categories.of(list(names)), LocalDecoder(len(names)), multi_label=multi_label)
    with torch.no_grad():
        for parameter in [*backbone.parameters(), *head.parameters()]:
            parameter *= 2 if parameter.ndim > 1 else 1
    model = VisionModel(rule, backbone, None, {"semantic": head}).eval()
    with torch.no_grad():  # no category best everywhere
        seen = model.preprocess([picture(96, 96, len(rule.mean), seed=9)], size=(96, 96)).images
        head.decoder.classifier.bias -= head.logits(model.features(seen), (96, 96)).mean(dim=(0, 2, 3))
    return model


def radius_of(strides: Sequence[int]) -> int:
    """Pixels around the centre of a cell of the last map on which its value depends, rounded up to whole cells.

    Three cells of a layer's input wide, and the middle one begins where the output's cell begins.
    """
    reach, jump = 0, 1
    for stride in strides:
        reach += jump  # to the left of the first pixel of the cell; to the right it is less
        jump *= stride
    return reach + -(-jump // 2)


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    """(C, H, W) uint8: smooth blobs and noise."""
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.rand((1, channels, height // 12 + 2, width // 12 + 2), generator=generator)
    blobs = nn.functional.interpolate(blobs, size=(height, width), mode="bilinear", align_corners=False)[0]
    noise = torch.rand((channels, height, width), generator=generator)
    return ((0.7 * blobs + 0.3 * noise) * 255).to(torch.uint8)
