"""Finer maps of the same network: a stride is taken out, and what follows looks as far as before (Yu & Koltun 2016).

Where a layer of stride 2 takes every step instead, each layer behind it is dilated by 2. At every second cell of the
finer map stands what the coarser map held, so that weights trained with the stride stay right ("à trous").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pair = tuple[int, int]


class EndPaddedConv(nn.Conv2d):
    """A convolution of stride 1 that keeps the size by unequal padding; parameters are named as in `nn.Conv2d`."""

    def __init__(self, conv: nn.Conv2d, dilation: int, before: Pair, after: Pair) -> None:
        """
        Args:
            conv: whose parameters it takes. before, after: cells of padding (vertical, horizontal).
        """
        super().__init__(
            conv.in_channels, conv.out_channels, _pair(conv.kernel_size), dilation=dilation, groups=conv.groups,
            bias=conv.bias is not None, device="meta",
        )  # fmt: skip
        self.weight, self.bias = conv.weight, conv.bias
        self.pads = (before[1], after[1], before[0], after[0])

    def forward(self, input: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, out_channels, h, w)."""
        return super().forward(F.pad(input, self.pads))


class DilatedPool(nn.Module):
    """Maximum or mean over windows at every cell, of cells `dilation` apart; the size stays.

    Cells outside the map never win a maximum; for a mean, the last row and column go on outside.
    """

    def __init__(self, kernel: Pair, dilation: int, before: Pair, after: Pair, mean: bool) -> None:
        super().__init__()
        self.kernel, self.dilation, self.mean = kernel, dilation, mean
        self.pads = (before[1], after[1], before[0], after[0])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        if not self.mean:
            padded = F.pad(x, self.pads, value=float("-inf"))
            return F.max_pool2d(padded, self.kernel, stride=1, dilation=self.dilation)
        padded = F.pad(x, self.pads, mode="replicate")
        weight = padded.new_ones(1, 1, *self.kernel) / (self.kernel[0] * self.kernel[1])
        channels = x.shape[1]
        return F.conv2d(padded, weight.expand(channels, 1, *self.kernel), dilation=self.dilation, groups=channels)


def is_strided(layer: nn.Module) -> bool:
    """Whether it is a convolution or a pooling that makes its map smaller."""
    return isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and max(_pair(layer.stride)) > 1


def dilated(layer: nn.Module, dilation: int) -> nn.Module:
    """The layer with stride 1 and its window's cells `dilation` times as far apart; its map is as large as its input.

    Convolutions with equal padding are changed in place, others are replaced by a layer with the same parameters;
    what is neither convolution nor pooling comes back as it is.
    """
    if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return layer
    kernel, padding = _pair(layer.kernel_size), _pair(layer.padding)
    before = (padding[0] * dilation, padding[1] * dilation)
    after = ((kernel[0] - 1) * dilation - before[0], (kernel[1] - 1) * dilation - before[1])
    if not isinstance(layer, nn.Conv2d):
        return DilatedPool(kernel, dilation, before, after, mean=isinstance(layer, nn.AvgPool2d))
    if before != after:
        return EndPaddedConv(layer, dilation, before, after)
    layer.stride, layer.padding, layer.dilation = (1, 1), before, (dilation, dilation)
    return layer


def adapt_channels(weight: Tensor, in_channels: int) -> Tensor:
    """A first convolution's weights for images of other than three channels.

    Args:
        weight: (out, 3, h, w), or (out, parts * 3, h, w) where every pixel's neighbours are channels, too.
        in_channels: of the images.

    Returns:
        (out, parts * in_channels, h, w). For one channel the sum: a grey image gives what it gave as RGB. For n the
        three repeated in turn and scaled by 3 / n: the sum over equal channels stays about what it was.
    """
    by_channel = weight.unflatten(1, (-1, 3))
    if in_channels == 1:
        summed: Tensor = by_channel.sum(dim=2)
        return summed
    turn = torch.arange(in_channels, device=weight.device) % 3
    repeated: Tensor = by_channel[:, :, turn] * (3 / in_channels)
    return repeated.flatten(1, 2)


def _pair(value: Any) -> Pair:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))
