"""The contracting half of the original U-Net (Ronneberger et al. 2015)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import nn

from vision_tasks.backbones.base import NORMS
from vision_tasks.backbones.chain import Chain
from vision_tasks.ops.double_conv import double_conv

WIDTHS = {"unet": 64, "unet_32": 32, "unet_16": 16}
"""Channels at full size by name; they double with every halving. The paper's are 64."""


def unet_encoder(name: str, norm: str, levels: Sequence[str] | None, norm_eps: float | None = None) -> Chain:
    """Five times two 3×3 convolutions, a 2×2 maximum between; C0 is at full size, C4 at 1/16.

    Convolutions are padded, so that maps keep their size; the paper's lose a border of one cell each, and its network
    answers for the middle of an image only. Sides are rounded down. No weights are published.

    Args:
        name: in `WIDTHS`.
        norm: after every convolution: a name in `NORMS`, or "none", as in the paper.
    """
    layer = None if norm == "none" else partial(NORMS[norm], eps=1e-5 if norm_eps is None else norm_eps)
    layers: dict[str, nn.Module] = {}
    width, before = WIDTHS[name], 3
    for i in range(5):
        if i:
            layers[f"pool{i}"] = nn.MaxPool2d(2)
        layers[f"stage{i}"] = double_conv(before, width * 2**i, layer)
        before = width * 2**i
    body = nn.Sequential(OrderedDict(layers))
    return Chain(name, body, body.named_children(), {f"C{i}": f"stage{i}" for i in range(5)}, levels)
