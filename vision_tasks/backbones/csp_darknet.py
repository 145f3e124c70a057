"""CSPDarknet, the body of YOLOv5 and YOLOX (Ge et al. 2021), with the layers and parameter names of YOLOX's files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.backbones.base import LEVELS
from vision_tasks.backbones.chain import Chain, set_norm
from vision_tasks.ops.csp import ConvBlock, CSPLayer, spatial_block

SCALES: dict[str, tuple[float, float, bool]] = {
    "nano": (0.33, 0.25, True),
    "tiny": (0.33, 0.375, False),
    "s": (0.33, 0.50, False),
    "m": (0.67, 0.75, False),
    "l": (1.0, 1.0, False),
    "x": (1.33, 1.25, False),
}
"""YOLOX's sizes: factor of the depth, factor of the width, whether 3×3 convolutions are depthwise."""


class Focus(nn.Module):
    """Each 2×2 of pixels becomes one of four times the channels; then a 3×3 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvBlock(4 * in_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, out_channels, h / 2, w / 2), rounded up."""
        height, width = x.shape[-2:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2))
        corners = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
        out: Tensor = self.conv(torch.cat(corners, dim=1))
        return out


class SPPBottleneck(nn.Module):
    """Spatial pyramid pooling as in YOLOv3-SPP: the map beside its maxima over 5×5, 9×9 and 13×13."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.conv1 = ConvBlock(channels, hidden, 1)
        self.conv2 = ConvBlock(4 * hidden, channels, 1)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) -> the same shape."""
        maps = [self.conv1(x)]
        for _ in range(3):  # a maximum over 5×5 of maxima over 5×5 is one over 9×9, and so on: a fifth of the work
            maps.append(self.pool(maps[-1]))
        out: Tensor = self.conv2(torch.cat(maps, dim=1))
        return out


def csp_darknet(name: str, norm: str, levels: Sequence[str] | None, norm_eps: float | None = None) -> Chain:
    """Focus stem and four stages of strided convolution and CSP layer, the last with pyramid pooling.

    C1 is the stem, C2..C5 are dark2..dark5. Sides are rounded up. No ImageNet weights are published.

    Args:
        name: "csp_darknet_" and a key of `SCALES`. norm_eps: None is YOLOX's 1e-3.
    """
    depth_factor, width_factor, depthwise = SCALES[name.removeprefix("csp_darknet_")]
    widths = [int(64 * width_factor) * 2**i for i in range(5)]
    depth = max(round(3 * depth_factor), 1)
    layers: dict[str, nn.Module] = {"stem": Focus(3, widths[0])}
    for i, blocks in enumerate((depth, 3 * depth, 3 * depth, depth), start=1):
        last = i == 4
        layers[f"dark{i + 1}"] = nn.Sequential(
            spatial_block(widths[i - 1], widths[i], 3, stride=2, depthwise=depthwise),
            *([SPPBottleneck(widths[i])] if last else []),
            CSPLayer(widths[i], widths[i], blocks, shortcut=not last, depthwise=depthwise),
        )
    body = nn.Sequential(OrderedDict(layers))
    set_norm(body, norm, norm_eps)
    ends = dict(zip(LEVELS, layers, strict=True))
    return Chain(name, body, body.named_children(), ends, levels, dict(zip(LEVELS, widths, strict=True)))
