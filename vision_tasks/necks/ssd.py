"""What SSD (Liu et al. 2016) puts behind its backbone: ever coarser maps, each made of the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops.misc import Conv2dNormActivation

from vision_tasks.necks.base import Neck

NormLayer = Callable[[int], nn.Module]
"""Makes the normalisation of so many channels."""


class ExtraMaps(Neck):
    """Coarser maps than the backbone's deepest: of C5, P6, P7 and so on.

    Args:
        level: the deepest map, "C5" or what it is called. blocks: (output channels, module) per further map.
    """

    def __init__(self, level: str, blocks: Sequence[tuple[int, nn.Module]]) -> None:
        super().__init__()
        self.level = level
        self.blocks = nn.ModuleList(block for _, block in blocks)
        start = int(level[1:]) + 1
        self.channels = {f"P{start + i}": channels for i, (channels, _) in enumerate(blocks)}

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{..., level: (B, c, h, w)} -> {"P6": (B, c, h', w'), ...}."""
        maps: dict[str, Tensor] = {}
        x = features[self.level]
        for name, block in zip(self.channels, self.blocks, strict=True):
            x = maps[name] = block(x)
        return maps


class AtrousVGGNeck(Neck):
    """SSD on VGG-16: conv4_3 rescaled, fc6 and fc7 made convolutions, and coarser maps.

    P3 is C3 brought to length 20 (learnt per channel) over its channels at every pixel (ParseNet's normalisation, SSD
    section 3.1). P4 is C4 through a pooling that keeps the size, an atrous 3×3 that stands for fc6, and a 1×1 for fc7.

    Args:
        blocks: as of `ExtraMaps`, of P4.
    """

    def __init__(self, blocks: Sequence[tuple[int, nn.Module]]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((512,), 20.0))
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=6, dilation=6)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        self.extra = ExtraMaps("P4", blocks)
        self.channels = {"P3": 512, "P4": 1024, **self.extra.channels}

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"C3": (B, 512, h, w), "C4": (B, 512, h', w')} -> {"P3": (B, 512, h, w), "P4": (B, 1024, h', w'), ...}."""
        fine = self.scale[:, None, None] * F.normalize(features["C3"])
        coarse = F.relu(self.fc7(F.relu(self.fc6(self.pool(features["C4"])), inplace=True)), inplace=True)
        return {"P3": fine, "P4": coarse, **self.extra({"P4": coarse})}


def plain_block(
    in_channels: int, hidden: int, channels: int, kernel: int = 3, stride: int = 2, padding: int = 1
) -> nn.Module:
    """1×1 then k×k convolution, a ReLU after each, as SSD makes one map of the one before."""
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, channels, kernel, stride=stride, padding=padding),
        nn.ReLU(inplace=True),
    )


def separable_block(in_channels: int, channels: int, layer: NormLayer) -> nn.Module:
    """1×1, depthwise 3×3 of stride 2, 1×1, each normalised and with a ReLU6 (SSDLite: MobileNetV2, section 6.2)."""
    hidden = channels // 2
    return nn.Sequential(
        Conv2dNormActivation(in_channels, hidden, 1, norm_layer=layer, activation_layer=nn.ReLU6),
        Conv2dNormActivation(hidden, hidden, 3, 2, groups=hidden, norm_layer=layer, activation_layer=nn.ReLU6),
        Conv2dNormActivation(hidden, channels, 1, norm_layer=layer, activation_layer=nn.ReLU6),
    )
