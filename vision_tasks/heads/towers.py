"""The network of RetinaNet and FCOS: a tower of four convolutions for each question, the same on every level."""

from __future__ import annotations

import math

from torch import Tensor, nn

_PRIOR = 0.01  # Lin et al. 2017, section 4.1: every output begins at this probability


def tower(channels: int, norm: bool, bias: bool) -> nn.Sequential:
    """Four 3×3 convolutions, each with a ReLU and, if asked for, group norm before it."""
    layers: list[nn.Module] = []
    for _ in range(4):
        convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        nn.init.normal_(convolution.weight, std=0.01)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
        layers.append(convolution)
        if norm:
            # Published: 32 groups of 256 channels. Narrow pyramids have fewer groups, not smaller ones: a group of one
            # channel has nothing to compare with on a map of one cell.
            layers.append(nn.GroupNorm(math.gcd(32, channels, max(channels // 8, 1)), channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def output_layer(channels: int, outputs: int, classes: bool = False) -> nn.Conv2d:
    """The 3×3 convolution after a tower. That of classes starts at a probability of 0.01 everywhere."""
    layer = nn.Conv2d(channels, outputs, 3, padding=1)
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, -math.log((1 - _PRIOR) / _PRIOR) if classes else 0.0)
    return layer


def by_anchor(output: Tensor, anchors: int) -> Tensor:
    """(B, anchors * C, h, w) -> (B, h * w * anchors, C): cells in row-major order, the anchors of a cell together."""
    rows: Tensor = output.unflatten(1, (anchors, -1)).permute(0, 3, 4, 1, 2).flatten(1, 3)
    return rows
