"""MobileNetV2 (Sandler et al. 2018) and V3 (Howard et al. 2019) with torchvision's layers and parameter names."""

from __future__ import annotations

from collections.abc import Sequence

import torchvision

from vision_tasks.backbones.chain import Chain, children_of, set_norm

# Index in `features` of the last block of each level, and of the first block of C3 and C5.
_ENDS = {
    "mobilenet_v2": {"C1": 1, "C2": 3, "C3_first": 4, "C3": 6, "C4": 13, "C5_first": 14, "C5": 18},
    "mobilenet_v3_large": {"C1": 1, "C2": 3, "C3_first": 4, "C3": 6, "C4": 12, "C5_first": 13, "C5": 16},
    "mobilenet_v3_small": {"C1": 0, "C2": 1, "C3_first": 2, "C3": 3, "C4": 8, "C5_first": 9, "C5": 12},
}


def mobilenet(name: str, norm: str, levels: Sequence[str] | None, norm_eps: float | None = None) -> Chain:
    """MobileNetV2, V3-Large or V3-Small by torchvision's name, randomly initialised as torchvision does.

    A level ends with the last block before the next halving; C5 is the output of the last 1×1 convolution. There are
    two more levels, "C3_first" and "C5_first": the output of the first block at 1/8 and 1/32 of the size. torchvision's
    R-CNNs on MobileNets read ("C5_first", "C5"), both at 1/32, its segmentation models ("C3_first", "C5"). Sides are
    rounded up. With `output_stride` V3 also dilates the layers whose stride
    is taken out, as torchvision's segmentation models do, whose weights are trained that way.
    """
    body = getattr(torchvision.models, name)(weights=None)
    set_norm(body, norm, norm_eps)
    ends = {level: f"features.{i}" for level, i in _ENDS[name].items()}
    v3 = name.startswith("mobilenet_v3")
    return Chain(name, body, children_of(body, "features"), ends, levels, dilate_strided=v3)
