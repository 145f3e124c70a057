"""SqueezeNet (Iandola et al. 2016) with torchvision's layers and parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torchvision
from torch import nn

from vision_tasks.backbones.chain import Chain, children_of

# Index in `features` of the last layer of each level.
_ENDS = {"squeezenet1_0": (1, 5, 10, 12), "squeezenet1_1": (1, 4, 7, 12)}
_WIDTHS = {"squeezenet1_0": (96, 256, 512, 512), "squeezenet1_1": (64, 128, 256, 512)}


def squeezenet(name: str, norm: str, levels: Sequence[str] | None, norm_eps: float | None = None) -> Chain:
    """SqueezeNet 1.0 or 1.1 by torchvision's name, randomly initialised as torchvision does.

    A level is what the next pooling sees. The network ends at 1/16; C5 is C4 pooled once more. The first convolution is
    padded, which it is not in torchvision, so that the sides of an image divisible by 32 halve exactly; others are
    rounded up at C1, then down. `norm` and `norm_eps` mean nothing here: there is no normalisation.
    """
    body = getattr(torchvision.models, name)(weights=None)
    first = body.features[0]
    first.padding = (first.kernel_size[0] // 2, first.kernel_size[1] // 2)
    layers = [*children_of(body, "features"), ("pool", nn.MaxPool2d(3, stride=2, ceil_mode=True))]
    ends = {f"C{level}": f"features.{i}" for level, i in enumerate(_ENDS[name], start=1)} | {"C5": "pool"}
    widths = {f"C{level}": width for level, width in enumerate((*_WIDTHS[name], 512), start=1)}
    return Chain(name, body, layers, ends, levels, widths)
