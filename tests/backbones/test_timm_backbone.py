"""Networks of timm as backbones, against timm's own whole networks."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn

import vision_tasks as vt
from vision_tasks.backbones.base import LEVELS
from vision_tasks.backbones.registry import backbone_builder, build_backbone
from vision_tasks.weights import files


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm")


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(vt.VisionTasksError, match=r"timm/resnet18 needs timm.*vision_tasks\[timm\]"):
        build_backbone("timm/resnet18", "batch", LEVELS)


# Network -> the module of the whole network after which each level is read, from timm's documentation of the layers.
NODES = {
    "resnet18": ("act1", "layer1", "layer2", "layer3", "layer4"),
    "mobilenetv3_small_050": ("bn1", "blocks.0", "blocks.1", "blocks.3", "blocks.5"),
    "convnext_atto": (None, "stages.0", "stages.1", "stages.2", "stages.3"),
}


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("norm", ["frozen", *(pytest.param(n, marks=pytest.mark.slow) for n in ("batch", "sync"))])
def test_weights_of_the_whole_network_give_its_maps(timm: Any, name: str, norm: str) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(name, pretrained=False).eval()
    for module in whole.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    expected = {}
    for node, level in zip(NODES[name], LEVELS, strict=True):
        if node is not None:
            whole.get_submodule(node).register_forward_hook(
                lambda _module, _inputs, output, level=level: expected.update({level: output.clone()})
            )
    backbone = build_backbone(f"timm/{name}", norm, list(expected) or LEVELS if name == "resnet18" else LEVELS[1:])
    fit = files.load_fitting(backbone, backbone.rename(whole.state_dict()), "whole", backbone.left_out)
    assert fit.missing == fit.unexpected == fit.reshaped == []
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        whole(images)
        found = backbone.eval()(images)
    assert list(found) == list(backbone.channels)
    for level, maps in found.items():
        stride = 2 ** int(level[1])
        assert maps.shape == (1, backbone.channels[level], 64 // stride, 96 // stride)
        torch.testing.assert_close(maps, expected[level], rtol=1e-4, atol=1e-4 * float(expected[level].std()))


def test_norms_and_their_epsilon(timm: Any) -> None:
    kinds = {"batch": "BatchNormAct2d", "sync": "SyncBatchNormAct", "frozen": "FrozenBatchNormAct2d"}
    for norm, kind in kinds.items():
        backbone = build_backbone("timm/efficientnet_lite0", norm, ("C3",), 0.25)
        found = [m for m in backbone.modules() if "BatchNorm" in type(m).__name__]
        assert {type(m).__name__ for m in found} == {kind}
        assert {m.eps for m in found} == {0.25}


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "convnext_atto"])
def test_no_parameter_that_learns_goes_without_a_gradient(timm: Any, name: str) -> None:
    backbone = build_backbone(f"timm/{name}", "batch", ("C3", "C4")).train()
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert list(maps) == ["C3", "C4"]
    sum(m.sum() for m in maps.values()).backward()
    assert not [n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv3_small_050", "convnext_atto", pytest.param("xception41", marks=pytest.mark.slow)]
)
def test_freezing_stops_the_first_stages_and_only_them(timm: Any, name: str) -> None:
    backbone = build_backbone(f"timm/{name}", "batch", ("C2", "C3", "C4", "C5"))
    backbone.freeze(2)
    backbone.train()
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert not maps["C2"].requires_grad
    assert not maps["C3"].requires_grad
    assert maps["C4"].requires_grad
    learning = [m for level, modules in backbone.stages() if level in ("C4", "C5") for m in modules]
    assert learning
    assert all(p.requires_grad for m in learning for p in m.parameters())
    still = [m for level, modules in backbone.stages() if level < "C4" for m in modules]
    assert not any(inner.training for m in still for inner in m.modules())
    assert sum(len(list(m.parameters())) for m in learning + still) == len(list(backbone.parameters()))


def test_what_cannot_be_had_is_said(timm: Any) -> None:
    backbone_builder("timm/anything")  # only timm knows
    for name, message in {
        "timm/resnet_18": r"no network 'resnet_18'\. Did you mean 'timm/resnet18'\?",
        "timm/vit_tiny_patch16_224": r"one size only, \(224, 224\)",
        "timm/convnext_atto": "has no C1; its levels are C2, C3, C4, C5",
    }.items():
        with pytest.raises(vt.VisionTasksError, match=message):
            build_backbone(name, "batch", LEVELS)
    backbone = build_backbone("timm/hrnet_w18_small", "batch", ("C2",))
    with pytest.raises(vt.VisionTasksError, match=r"hrnet_w18_small cannot be told apart.*trainable_stages to 5"):
        backbone.freeze(3)
    backbone.freeze(5)


@pytest.mark.slow
def test_torch_can_export_it(timm: Any) -> None:
    backbone = build_backbone("timm/resnet18", "frozen", ("C3", "C5")).eval()
    exported = torch.export.export(backbone, (torch.zeros(1, 3, 64, 64),)).module()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for level, found in exported(images).items():
            torch.testing.assert_close(found, backbone(images)[level])
