"""The block that both halves of a U-Net are made of (Ronneberger et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def double_conv(in_channels: int, out_channels: int, norm: Callable[[int], nn.Module] | None) -> nn.Sequential:
    """Two 3×3 convolutions, each with normalisation and ReLU; (B, in_channels, h, w) -> (B, out_channels, h, w).

    The map keeps its size by zero padding; the paper's convolutions take their valid part instead.

    Args:
        norm: makes the normalisation of so many channels. None: none, and convolutions with a bias, as in the paper.
    """
    layers: list[nn.Module] = []
    for width in (in_channels, out_channels):
        conv = nn.Conv2d(width, out_channels, 3, padding=1, bias=norm is None)
        # The paper's section 3: deviation sqrt(2 / N) for N incoming values.
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        layers += [conv, *([] if norm is None else [norm(out_channels)]), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
