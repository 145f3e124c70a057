"""The contracting half of U-Net, and maps at full size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vision_tasks.backbones.base import LEVELS
from vision_tasks.backbones.registry import build_backbone


def test_all_levels_there_are() -> None:
    for name, levels in {
        "resnet_narrow": LEVELS,
        "convnext_tiny": LEVELS[1:],
        "mobilenet_v3_small": LEVELS,  # without its C5_first
        "vgg11": ("C0", *LEVELS),
        "unet_16": ("C0", *LEVELS[:4]),
    }.items():
        with torch.device("meta"):
            assert tuple(build_backbone(name, "batch", None).channels) == levels


def test_all_levels_there_are_in_timms() -> None:
    pytest.importorskip("timm")
    assert tuple(build_backbone("timm/convnext_atto", "batch", None).channels) == LEVELS[1:]


@pytest.mark.parametrize("name", ["unet_16", "vgg11"])
def test_what_is_at_full_size(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, "batch", ("C0", "C1", "C4")).to("meta")
        maps = backbone(torch.zeros(1, 3, 64, 48, device="meta"))
    shapes = {"unet_16": [(16, 64, 48), (32, 32, 24), (256, 4, 3)], "vgg11": [(64, 64, 48), (128, 32, 24), (512, 4, 3)]}
    assert [tuple(m.shape[1:]) for m in maps.values()] == shapes[name]


def test_freezing_counts_full_size_to_the_first_stage() -> None:
    backbone = build_backbone("unet_16", "batch", None)
    for trainable, learning in {5: "01234", 4: "234", 3: "34", 2: "4", 1: "", 0: ""}.items():
        backbone.requires_grad_(True)
        backbone.freeze(trainable)
        found = {name.split(".")[0][-1] for name, p in backbone.named_parameters() if p.requires_grad}
        assert "".join(sorted(found)) == learning


def test_norm_and_its_epsilon() -> None:
    kinds = {"batch": {0.5}, "frozen": {0.5}, "sync": {0.5}, "none": set()}
    for norm, wanted in kinds.items():
        backbone = build_backbone("unet_16", norm, None, 0.5)
        assert {m.eps for m in backbone.modules() if "Norm" in type(m).__name__} == wanted
        assert {m.bias is None for m in backbone.modules() if isinstance(m, nn.Conv2d)} == {norm != "none"}
