"""PSPNet (Zhao et al. 2017): a map beside its own means over the whole image and over halves, thirds and sixths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.heads.fcn import Norm, conv_norm_relu
from vision_tasks.heads.semantic import Decoder

SIZES = (1, 2, 3, 6)
"""The paper's pyramid: means over the whole map, 2×2 parts of it, 3×3 and 6×6."""


class PyramidPooling(nn.Module):
    """The map, and behind it, for each size, its means over so many parts, through a 1×1 convolution, and enlarged."""

    def __init__(self, in_channels: int, norm: Norm, sizes: Sequence[int] = SIZES, align_corners: bool = False) -> None:
        """
        Args:
            norm: with batch norm, one that can do with a single value per channel: of one image that is what the mean
                over all gives.
            sizes: parts in each direction; each gets an equal share of the input's channels.
            align_corners: of the enlargement; true in the authors' code, where the outermost parts reach their means
                at the map's border and not in their own middle.
        """
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise ValueError(f"sizes must be numbers of parts of at least 1, not {tuple(sizes)}")
        self.sizes = tuple(sizes)
        self.align_corners = align_corners
        width = max(in_channels // len(sizes), 1)
        self.branches = nn.ModuleList(conv_norm_relu(in_channels, width, norm, kernel=1) for _ in sizes)
        self.channels = in_channels + width * len(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, channels, h, w)."""
        maps = [x]
        for size, branch in zip(self.sizes, self.branches, strict=True):
            pooled = branch(F.adaptive_avg_pool2d(x, size))
            maps.append(F.interpolate(pooled, x.shape[-2:], mode="bilinear", align_corners=self.align_corners))
        return torch.cat(maps, dim=1)


class PSPDecoder(Decoder):
    """Pyramid pooling, 3×3 convolution, dropout, 1×1 convolution to the outputs; at the map's stride."""

    def __init__(
        self,
        level: str,
        channels: int,
        outputs: int,
        norm: Norm = nn.BatchNorm2d,
        width: int = 512,
        sizes: Sequence[int] = SIZES,
        dropout: float = 0.1,
    ) -> None:
        """
        Args:
            level: the map it reads. channels: of that map. width: channels before the last convolution.
            sizes: see `PyramidPooling`. dropout: share of channels left out in training.
        """
        super().__init__()
        self.levels = (level,)
        self.pooling = PyramidPooling(channels, norm, sizes)
        self.layers = conv_norm_relu(self.pooling.channels, width, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, outputs, 1)

    def forward(self, features: dict[str, Tensor], canvas: tuple[int, int]) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(self.layers(self.pooling(features[self.levels[0]]))))
        return logits

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        return {"classifier.weight": (1, 1), "classifier.bias": (1, 1)}
