"""ResNet (He et al. 2015), ResNeXt (Xie et al. 2017) and Wide ResNet (Zagoruyko & Komodakis 2016), as torchvision's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import torchvision
from torch import nn
from torchvision.models import resnet as tv

from vision_tasks.backbones.base import LEVELS, NORMS, Backbone
from vision_tasks.backbones.chain import Chain, set_norm


class NarrowResNet(Backbone):
    """A ResNet of one basic block a stage and few channels, for demonstrations, tests and very small data.

    Widths 16, 24, 48, 96, 128 (C1 to C5). No published weights.
    """

    def __init__(self, norm: str, levels: Sequence[str], norm_eps: float | None = None) -> None:
        widths = (16, 24, 48, 96, 128)
        super().__init__({level: width for level, width in zip(LEVELS, widths, strict=True) if level in levels})
        layer = partial(NORMS[norm], eps=1e-5 if norm_eps is None else norm_eps)
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


def resnet(name: str, norm: str, levels: Sequence[str], norm_eps: float | None = None) -> Chain:
    """A ResNet, ResNeXt or Wide ResNet by torchvision's name, randomly initialised as torchvision does.

    C1 is the stem before its pooling, C2..C5 are layer1..layer4. Sides are rounded up.
    """
    body = getattr(torchvision.models, name)(weights=None)
    set_norm(body, norm, norm_eps)
    wide = body.fc.in_features
    widths = dict(zip(LEVELS, (body.conv1.out_channels, wide // 8, wide // 4, wide // 2, wide), strict=True))
    layers = [(child, layer) for child, layer in body.named_children() if child not in ("avgpool", "fc")]
    ends = dict(zip(LEVELS, ("relu", "layer1", "layer2", "layer3", "layer4"), strict=True))
    return Chain(body, layers, ends, widths, levels)
