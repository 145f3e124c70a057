"""VGG (Simonyan & Zisserman 2014) with torchvision's layers and parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import nn

from vision_tasks.backbones.chain import Chain, children_of, set_norm


def vgg(name: str, norm: str, levels: Sequence[str] | None, norm_eps: float | None = None) -> Chain:
    """VGG-11/13/16/19, with or without batch norm ("_bn"), by torchvision's name, initialised as torchvision does.

    A level is what the next pooling sees: C1 is conv2 of the paper (the first at half the size), C4 is conv5, and C5
    is conv5 pooled. C0, at full size, is conv1. Sides are rounded down. `norm` and `norm_eps` mean nothing without
    batch norm.
    """
    with torch.device("meta"):  # the classifier's 500 MB are never used, so they shall not be drawn either
        body = getattr(torchvision.models, name)(weights=None)
    body.features.to_empty(device="cpu")
    for module in body.features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    set_norm(body, norm, norm_eps)
    layers = children_of(body, "features")
    pools = [i for i, (_, layer) in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    ends = {f"C{level}": layers[pool - 1][0] for level, pool in enumerate(pools)}
    return Chain(name, body, layers, ends | {"C5": layers[pools[-1]][0]}, levels, widths={"C5": 512})
