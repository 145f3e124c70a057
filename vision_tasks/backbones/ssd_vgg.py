"""VGG-16 (Simonyan and Zisserman 2014) as SSD reads it: up to conv5_3, its third pooling rounding up."""

from __future__ import annotations

import torchvision
from torch import nn

from vision_tasks.backbones.chain import Chain, children_of

# Index in `features` of the last ReLU of each level; the next layer is the pooling that halves the map.
_ENDS = {"C1": 8, "C2": 15, "C3": 22, "C4": 29}


def ssd_vgg16() -> Chain:
    """torchvision's `vgg16` without classifier and last pooling: C3 is conv4_3, C4 conv5_3.

    Parameter names are torchvision's, so its ImageNet files fit. An odd map is halved upwards by the third pooling (75
    to 38 at 300 pixels), as in the paper's network and torchvision's.
    """
    body = torchvision.models.vgg16(weights=None)
    pooling = body.features[_ENDS["C2"] + 1]
    assert isinstance(pooling, nn.MaxPool2d)
    pooling.ceil_mode = True
    ends = {level: f"features.{i}" for level, i in _ENDS.items()}
    return Chain("ssd_vgg16", body, children_of(body, "features"), ends, ("C3", "C4"))
