"""DenseNet (Huang et al. 2017) with torchvision's layers and parameter names."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torchvision
from torch import nn

from vision_tasks.backbones.chain import Chain, children_of, set_norm


class DenseNet(Chain):
    """A chain that knows the names of torchvision's published files, which are older than its code."""

    def own_name(self, weight: str) -> str:
        return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", weight)


def densenet(name: str, norm: str, levels: Sequence[str] | None, norm_eps: float | None = None) -> DenseNet:
    """DenseNet-121/161/169/201 by torchvision's name, randomly initialised as torchvision does.

    C1 is the stem. C2..C5 are the four dense blocks, each after the norm and activation that follow it: a block's own
    output is a concatenation of sums that were never normalised. Sides are rounded up twice (C1, C2), then down.
    """
    body = getattr(torchvision.models, name)(weights=None)
    set_norm(body, norm, norm_eps)
    layers: list[tuple[str, nn.Module]] = []
    for child, layer in children_of(body, "features"):
        layers += children_of(body, child) if "transition" in child else [(child, layer)]
    layers.append(("features.relu5", nn.ReLU(inplace=True)))  # a function in torchvision
    ends = {f"C{i + 1}": f"features.transition{i}.relu" for i in range(1, 4)}
    ends = {"C1": "features.relu0", **ends, "C5": "features.relu5"}
    widths = {f"C{i + 1}": body.get_submodule(f"features.transition{i}.norm").weight.shape[0] for i in range(1, 4)}
    return DenseNet(name, body, layers, ends, levels, {**widths, "C5": body.features.norm5.weight.shape[0]})
