"""All backbones by name. A user adds one with `BACKBONES["mine"] = build`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vision_tasks.backbones.base import Backbone
from vision_tasks.backbones.mobilenet import MobileNetV2
from vision_tasks.backbones.resnet import NarrowResNet, resnet

BACKBONES: dict[str, Callable[..., Backbone]] = {
    name: partial(resnet, name)
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d")
}
BACKBONES["mobilenet_v2"] = MobileNetV2
BACKBONES["resnet_narrow"] = NarrowResNet
"""Name -> function(norm, levels, norm_eps) that builds a randomly initialised backbone."""
