"""Blocks that CSPDarknet, its pyramid and its head are made of (YOLOX, Ge et al. 2021; names as in its files)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm, SiLU; padded so that stride 1 keeps the size.

    Batch norm's epsilon (1e-3) and momentum (0.03) are YOLOX's.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, out_channels, h / stride, w / stride), rounded up."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


def spatial_block(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, depthwise: bool = False
) -> nn.Module:
    """A `ConvBlock`, or with `depthwise` two: one per channel with this kernel and stride, one 1×1 across channels."""
    if not depthwise:
        return ConvBlock(in_channels, out_channels, kernel, stride)
    return nn.Sequential(
        OrderedDict(
            dconv=ConvBlock(in_channels, in_channels, kernel, stride, groups=in_channels),
            pconv=ConvBlock(in_channels, out_channels, 1),
        )
    )


class Bottleneck(nn.Module):
    """1×1, then 3×3, added to what came in if `shortcut`; the width stays."""

    def __init__(self, channels: int, shortcut: bool, depthwise: bool) -> None:
        super().__init__()
        self.conv1 = ConvBlock(channels, channels, 1)
        self.conv2 = spatial_block(channels, channels, 3, depthwise=depthwise)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) -> the same shape."""
        out: Tensor = self.conv2(self.conv1(x))
        return out + x if self.shortcut else out


class CSPLayer(nn.Module):
    """Cross stage partial layer (Wang et al. 2020): half of the channels pass `depth` bottlenecks, half go around."""

    def __init__(
        self, in_channels: int, out_channels: int, depth: int, shortcut: bool = True, depthwise: bool = False
    ) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.conv1 = ConvBlock(in_channels, hidden, 1)
        self.conv2 = ConvBlock(in_channels, hidden, 1)
        self.conv3 = ConvBlock(2 * hidden, out_channels, 1)
        self.m = nn.Sequential(*(Bottleneck(hidden, shortcut, depthwise) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, out_channels, h, w)."""
        out: Tensor = self.conv3(torch.cat((self.m(self.conv1(x)), self.conv2(x)), dim=1))
        return out
