"""DeepLabV3 (Chen et al. 2017) and V3+ (Chen et al. 2018): one map seen at several dilations and as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.heads.fcn import Norm, conv_norm_relu
from vision_tasks.heads.semantic import Decoder, first_scores

RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
"""Dilations by the stride of the map, so that they span the same pixels (Chen et al. 2017, section 3.3)."""


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1×1 convolution, dilated 3×3 ones and the map's mean, joined by a 1×1 one."""

    def __init__(
        self,
        in_channels: int,
        rates: Sequence[int],
        norm: Norm,
        width: int = 256,
        dropout: float = 0.5,
        separable: bool = False,
    ) -> None:
        """
        Args:
            rates: dilation of each 3×3 convolution. width: channels of every branch, and of the result.
            norm: with batch norm, one that can do with a single value per channel: of one image that is what the mean
                gives.
            separable: 3×3 convolutions are.
        """
        super().__init__()
        if not rates or min(rates) < 1:
            raise ValueError(f"rates must be dilations of at least 1, not {tuple(rates)}")
        self.branches = nn.ModuleList([conv_norm_relu(in_channels, width, norm, kernel=1)])
        self.branches.extend(
            conv_norm_relu(in_channels, width, norm, dilation=rate, separable=separable) for rate in rates
        )
        self.whole = conv_norm_relu(in_channels, width, norm, kernel=1)
        self.project = conv_norm_relu((len(rates) + 2) * width, width, norm, kernel=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, width, h, w)."""
        whole = self.whole(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        joined: Tensor = self.dropout(self.project(torch.cat([*(branch(x) for branch in self.branches), whole], dim=1)))
        return joined


class DeepLabV3Decoder(Decoder):
    """ASPP, a 3×3 convolution, and a 1×1 one to the outputs; at the map's stride."""

    def __init__(
        self,
        level: str,
        channels: int,
        outputs: int,
        rates: Sequence[int],
        norm: Norm = nn.BatchNorm2d,
        width: int = 256,
        dropout: float = 0.5,
    ) -> None:
        """
        Args:
            level: the map it reads. channels: of that map. rates: see `RATES`. width: channels inside.
        """
        super().__init__()
        self.levels = (level,)
        self.aspp = ASPP(channels, rates, norm, width, dropout)
        self.layers = conv_norm_relu(width, width, norm)
        self.classifier = nn.Conv2d(width, outputs, 1)

    def forward(self, features: dict[str, Tensor], canvas: tuple[int, int]) -> Tensor:
        logits: Tensor = self.classifier(self.layers(self.aspp(features[self.levels[0]])))
        return logits

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        return {"classifier.weight": (1, 1), "classifier.bias": (1, 1)}


class DeepLabV3PlusDecoder(Decoder):
    """ASPP on the coarse map, enlarged, joined with a fine map of few channels, and refined at the fine map's stride.

    The numbers are those of the paper's tables 1 and 2: 48 channels of the fine map, two 3×3 convolutions.
    """

    def __init__(
        self,
        fine: str,
        coarse: str,
        channels: Mapping[str, int],
        outputs: int,
        rates: Sequence[int],
        norm: Norm = nn.BatchNorm2d,
        width: int = 256,
        fine_width: int = 48,
        refinements: int = 2,
        dropout: float = 0.5,
        separable: bool = True,
    ) -> None:
        """
        Args:
            fine, coarse: the maps it reads. channels: of these, by level. rates: see `RATES`, of the coarse map.
            width: channels inside. fine_width: what the fine map is reduced to before the two are joined.
            refinements: 3×3 convolutions after that.
            separable: 3×3 convolutions are; says nearly the same for a fraction of the arithmetic (table 5).
        """
        super().__init__()
        self.levels = (fine, coarse)
        self.aspp = ASPP(channels[coarse], rates, norm, width, dropout, separable)
        self.reduce = conv_norm_relu(channels[fine], fine_width, norm, kernel=1)
        self.refine = nn.Sequential(
            *(
                conv_norm_relu(width + (0 if i else fine_width), width, norm, separable=separable)
                for i in range(refinements)
            )
        )
        self.classifier = first_scores(nn.Conv2d(width if refinements else width + fine_width, outputs, 1))

    def forward(self, features: dict[str, Tensor], canvas: tuple[int, int]) -> Tensor:
        fine, coarse = (features[level] for level in self.levels)
        enlarged = F.interpolate(self.aspp(coarse), size=fine.shape[-2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.classifier(self.refine(torch.cat([enlarged, self.reduce(fine)], dim=1)))
        return logits

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        return {"classifier.weight": (1, 1), "classifier.bias": (1, 1)}
