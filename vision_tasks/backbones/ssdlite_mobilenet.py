"""MobileNetV3-Large as SSDLite reads it (Howard et al. 2019, section 6.3)."""

from __future__ import annotations

from functools import partial

import torchvision
from torch import nn

from vision_tasks.backbones.chain import Chain, children_of, set_norm

_ENDS = {"C1": "1", "C2": "3", "C3": "6", "C4": "13.block.0", "C5": "16"}


def ssdlite_mobilenet_v3(norm: str, norm_eps: float = 1e-3, reduced_tail: bool = True) -> Chain:
    """torchvision's `mobilenet_v3_large` without its classifier.

    C4 (672 channels) is the expansion inside block 13, the first at 1/32 of the size, before its stride is taken; C5
    is the last 1×1 convolution's output. Parameter names are torchvision's, so its ImageNet files fit where the tail
    is not reduced.

    Args:
        norm: a name in `NORMS`. norm_eps: added to the variance; batch norm's momentum is 0.03, as in torchvision.
        reduced_tail: half as many channels behind C4 (the paper's table 6): 480 rather than 960 in C5.
    """
    body = torchvision.models.mobilenet_v3_large(
        weights=None, reduced_tail=reduced_tail, norm_layer=partial(nn.BatchNorm2d, momentum=0.03)
    )
    set_norm(body, norm, norm_eps)
    layers = children_of(body, "features")
    layers[13:14] = children_of(body, "features.13.block")
    ends = {level: f"features.{name}" for level, name in _ENDS.items()}
    return Chain("ssdlite_mobilenet_v3", body, layers, ends, ("C4", "C5"))
