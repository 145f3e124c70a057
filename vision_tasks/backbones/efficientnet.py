"""EfficientNet (Tan & Le 2019) and EfficientNetV2 (Tan & Le 2021) with torchvision's layers and parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torchvision

from vision_tasks.backbones.chain import Chain, children_of, set_norm

# Index in `features` of the last stage of each level. B0..B7, V2-M and V2-L have seven stages, V2-S has six.
_SEVEN = {"C1": 1, "C2": 2, "C3": 3, "C4": 5, "C5": 7}
_SIX = {"C1": 1, "C2": 2, "C3": 3, "C4": 5, "C5": 6}


def efficientnet(name: str, norm: str, levels: Sequence[str] | None, norm_eps: float | None = None) -> Chain:
    """EfficientNet-B0..B7 or V2-S/M/L by torchvision's name, randomly initialised as torchvision does.

    A level ends with the last block before the next halving. The last 1×1 convolution, which only the classifier wants,
    is left out, as in EfficientDet (Tan et al. 2020). Sides are rounded up.
    """
    body = getattr(torchvision.models, name)(weights=None)
    set_norm(body, norm, norm_eps)
    last = _SIX if name == "efficientnet_v2_s" else _SEVEN
    return Chain(
        name, body, children_of(body, "features"), {level: f"features.{i}" for level, i in last.items()}, levels
    )
