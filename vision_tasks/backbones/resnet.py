"""ResNet (He et al. 2015), ResNeXt (Xie et al. 2017) and Wide ResNet (Zagoruyko & Komodakis 2016), as torchvision's."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence

import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock

from vision_tasks.backbones.chain import Chain, set_norm

_LAYERS = {"C2": "layer1", "C3": "layer2", "C4": "layer3", "C5": "layer4"}


def resnet(name: str, norm: str, levels: Sequence[str] | None, norm_eps: float | None = None) -> Chain:
    """A ResNet, ResNeXt or Wide ResNet by torchvision's name, randomly initialised as torchvision does.

    C1 is the stem before its pooling, C2..C5 are layer1..layer4. Sides are rounded up.
    """
    body = getattr(torchvision.models, name)(weights=None)
    set_norm(body, norm, norm_eps)
    layers = [(child, layer) for child, layer in body.named_children() if child not in ("avgpool", "fc")]
    return Chain(name, body, layers, {"C1": "relu", **_LAYERS}, levels)


def narrow_resnet(norm: str, levels: Sequence[str] | None, norm_eps: float | None = None) -> Chain:
    """A ResNet of one basic block a stage and few channels, for demonstrations, tests and very small data.

    Widths 16, 24, 48, 96, 128 (C1 to C5). No published weights. Sides are rounded up.
    """
    widths = (16, 24, 48, 96, 128)
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False),
        "bn1": nn.BatchNorm2d(widths[0]),
        "relu": nn.ReLU(inplace=True),
    }
    for layer, (before, width) in zip(_LAYERS.values(), itertools.pairwise(widths), strict=True):
        shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride=2, bias=False), nn.BatchNorm2d(width))
        layers[layer] = BasicBlock(before, width, 2, shortcut)
    body = nn.Sequential(OrderedDict(layers))
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    set_norm(body, norm, norm_eps)
    return Chain("resnet_narrow", body, body.named_children(), {"C1": "relu", **_LAYERS}, levels)
