"""Every model of `MODELS`, small enough to build and run in a fraction of a second."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

import vision_tasks as vt
from tests.small_darknet import CFGS
from vision_tasks.models.vision_model import VisionModel

_PYRAMID: dict[str, Any] = {"backbone": "resnet_narrow", "channels": 32, "min_size": 64, "max_size": 128}
_TWO_STAGES = _PYRAMID | {"hidden": 32, "test_proposals": (50, 60), "detections_per_image": 12}
_MASKS = _TWO_STAGES | {"mask_channels": 8}

TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "faster_rcnn": ("faster_rcnn", _TWO_STAGES),
    "faster_rcnn_v2": ("faster_rcnn", _TWO_STAGES | {"variant": "v2"}),
    "mask_rcnn": ("mask_rcnn", _MASKS),
    "mask_rcnn_v2": ("mask_rcnn", _MASKS | {"variant": "v2"}),
    "cascade_rcnn": ("cascade_rcnn", _TWO_STAGES),
    "cascade_mask_rcnn": ("cascade_rcnn", _MASKS | {"masks": True}),
    "retinanet": ("retinanet", _PYRAMID),
    "retinanet_v2": ("retinanet", _PYRAMID | {"variant": "v2"}),
    "fcos": ("fcos", _PYRAMID),
    "ssd": ("ssd", {"backbone": "resnet_narrow"}),
    "ssdlite": ("ssdlite", {"backbone": "resnet_narrow"}),
    "yolox": ("yolox", {"variant": "nano", "size": (64, 96)}),
    "darknet": ("darknet", {"cfg": CFGS["v3"]}),
}
"""Name for a test -> model of objects and options."""

_NARROW: dict[str, Any] = {"backbone": "resnet_narrow"}

TINY_MAPS: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("unet", _NARROW | {"widths": (32, 24, 16, 16, 8)}),
    "unet_original": ("unet", {"backbone": "unet_16", "norm": "none"}),
    "deeplabv3": ("deeplabv3", _NARROW | {"output_stride": 8, "width": 16}),
    "deeplabv3plus": ("deeplabv3plus", _NARROW | {"output_stride": 16, "width": 16}),
    "fcn": ("fcn", _NARROW | {"output_stride": 8}),
    "lraspp": ("lraspp", {"backbone": "mobilenet_v3_small", "width": 16}),
    "pspnet": ("pspnet", _NARROW | {"width": 32}),
    "semantic_fpn": ("semantic_fpn", _NARROW | {"channels": 16, "width": 16, "groups": 4}),
}
"""Name for a test -> model of semantic maps and options. They take images as they are."""

TINY_JOINT: dict[str, tuple[str, dict[str, Any]]] = {
    "panoptic_fpn": (
        "panoptic_fpn",
        _PYRAMID | {"semantic_width": 32, "objects": {"hidden": 32, "mask_channels": 8, "detections_per_image": 12}},
    ),
    "multi_head": (
        "multi_head",
        _PYRAMID | {"heads": {"objects": {"type": "retinanet"}, "surface": {"type": "fcn"}}},
    ),
}
"""Name for a test -> model of objects and maps, and options."""


def tiny(name: str, categories: tuple[str, ...] = ("cat", "dog", "bird"), **options: Any) -> VisionModel:
    """The model, with random weights; one with heads of objects and of maps has the same categories in both."""
    torch.manual_seed(0)
    model, small = (TINY | TINY_MAPS | TINY_JOINT)[name]
    names: Any = {"objects": categories, "semantic": categories} if name in TINY_JOINT else categories
    return vt.create_model(model, names, **(small | options))


@torch.no_grad()
def keep_all(model: VisionModel) -> VisionModel:
    """Let every score pass, and spread the scores, so that random weights detect as much as there is room for."""
    generator = torch.Generator().manual_seed(1)
    for norm in model.modules():  # statistics of its own activations, which would otherwise shrink to nothing
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = None
    coarse = torch.rand(4, 3, 12, 12, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (64, 96), mode="bicubic").clamp(0, 1)
    images = model.preprocess.normalise(fine)
    sizes = torch.tensor([[64, 96]] * 4)
    model.train().tensors(images, sizes)
    model.eval()
    for head in model.named_heads().values():
        for part in head.modules():
            rule = getattr(part, "rule", None)
            if rule is not None:
                part.rule = dataclasses.replace(rule, score_threshold=1e-8)
        scoring = {name.rpartition(".")[0] for name in head.class_parameters()}
        for name, module in head.named_modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and module.bias is not None:
                if name in scoring:
                    module.weight.copy_(torch.randn(module.weight.shape, generator=generator))
                seen: list[torch.Tensor] = []
                hook = module.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out.flatten()))
                model.tensors(images, sizes)
                hook.remove()
                if seen:
                    module.weight *= (1.5 if name in scoring else 0.7) / torch.cat(seen).std()
    return model
