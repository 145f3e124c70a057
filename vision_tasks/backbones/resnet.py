"""ResNets (He et al. 2015) and ResNeXt (Xie et al. 2017), with torchvision's layers and parameter names."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

from torch import nn
from torchvision.models import resnet as tv

from vision_tasks.backbones.base import LEVELS, NORMS, Backbone


class ResNet(Backbone):
    """A torchvision ResNet without its classifier."""

    def __init__(self, body: tv.ResNet, levels: Sequence[str]) -> None:
        wide = body.fc.in_features
        widths = dict(zip(LEVELS, (body.conv1.out_channels, wide // 8, wide // 4, wide // 2, wide), strict=True))
        super().__init__({level: widths[level] for level in levels})
        self.conv1, self.bn1, self.relu, self.maxpool = body.conv1, body.bn1, body.relu, body.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = body.layer1, body.layer2, body.layer3, body.layer4

    def stages(self) -> Sequence[tuple[str, Sequence[nn.Module]]]:
        return (
            ("C1", (self.conv1, self.bn1, self.relu)),
            ("C2", (self.maxpool, self.layer1)),
            ("C3", (self.layer2,)),
            ("C4", (self.layer3,)),
            ("C5", (self.layer4,)),
        )


class NarrowResNet(Backbone):
    """A ResNet of one basic block a stage and few channels, for demonstrations, tests and very small data.

    Widths 16, 24, 48, 96, 128 (C1 to C5). No published weights.
    """

    def __init__(self, norm: str, levels: Sequence[str], norm_eps: float = 1e-5) -> None:
        widths = (16, 24, 48, 96, 128)
        super().__init__({level: width for level, width in zip(LEVELS, widths, strict=True) if level in levels})
        layer = partial(NORMS[norm], eps=norm_eps)
        self.conv1 = nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False)
        self.bn1 = layer(widths[0])
        self.relu = nn.ReLU(inplace=True)
        blocks = []
        for before, width in itertools.pairwise(widths):
            shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride=2, bias=False), layer(width))
            blocks.append(tv.BasicBlock(before, width, 2, shortcut, norm_layer=layer))
        self.layer1, self.layer2, self.layer3, self.layer4 = blocks
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self) -> Sequence[tuple[str, Sequence[nn.Module]]]:
        return (
            ("C1", (self.conv1, self.bn1, self.relu)),
            ("C2", (self.layer1,)),
            ("C3", (self.layer2,)),
            ("C4", (self.layer3,)),
            ("C5", (self.layer4,)),
        )


def resnet(name: str, norm: str, levels: Sequence[str], norm_eps: float = 1e-5) -> ResNet:
    """ResNet-18/34/50/101/152 or ResNeXt-50 32x4d by torchvision's name, randomly initialised as torchvision does."""
    body = getattr(tv, name)(weights=None, norm_layer=partial(NORMS[norm], eps=norm_eps))
    return ResNet(body, levels)
