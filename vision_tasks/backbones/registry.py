"""All backbones by name. A user adds one with `BACKBONES["mine"] = build`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vision_tasks.backbones.base import Backbone
from vision_tasks.backbones.mobilenet import mobilenet
from vision_tasks.backbones.resnet import NarrowResNet, resnet

BACKBONES: dict[str, Callable[..., Backbone]] = {
    name: partial(resnet, name)
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d")
}
BACKBONES |= {name: partial(mobilenet, name) for name in ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")}
BACKBONES["resnet_narrow"] = NarrowResNet
"""Name -> function(norm, levels, norm_eps) that builds a randomly initialised backbone."""
