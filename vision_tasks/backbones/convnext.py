"""ConvNeXt (Liu et al. 2022) with torchvision's layers and parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torchvision

from vision_tasks.backbones.chain import Chain, children_of


def convnext(name: str, norm: str, levels: Sequence[str] | None, norm_eps: float | None = None) -> Chain:
    """ConvNeXt-T/S/B/L by torchvision's name, randomly initialised as torchvision does.

    There is no C1: the stem goes to 1/4 at once. C2..C5 are the four stages. Sides are rounded down.
    `norm` and `norm_eps` mean nothing here: layer normalisation has no statistics to freeze or to share.
    """
    body = getattr(torchvision.models, name)(weights=None)
    ends = {f"C{i + 1}": f"features.{2 * i - 1}" for i in range(1, 5)}
    return Chain(name, body, children_of(body, "features"), ends, levels)
