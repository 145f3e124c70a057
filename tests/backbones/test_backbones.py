"""Backbones against torchvision's own models: the same weights in, the same maps out."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

import vision_tasks as vt
from tests.tiny_model import OPTIONS
from vision_tasks.backbones.base import LEVELS, NORMS
from vision_tasks.backbones.registry import BACKBONES
from vision_tasks.models.vision_model import VisionModel

SMALL = ("resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2", "resnet_narrow")
RESNET_NODES = {"C1": "relu", "C2": "layer1", "C3": "layer2", "C4": "layer3", "C5": "layer4"}
MOBILENET_NODES = {f"C{i}": f"features.{n}" for i, n in enumerate((1, 3, 6, 13, 18), start=1)}
HEAD = {k: v for k, v in OPTIONS.items() if k != "backbone"} | {"channels": 8, "hidden": 8}


def with_backbone(name: str, weights: Path | None, **options: object) -> VisionModel:
    return vt.create_model("faster_rcnn", ["a"], backbone=name, backbone_weights=weights, **(HEAD | options))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(64, 96), (75, 50)])
def test_channels_and_strides_are_as_declared(name: str, size: tuple[int, int]) -> None:
    backbone = BACKBONES[name]("frozen", LEVELS).eval()
    with torch.inference_mode():
        maps = backbone(torch.zeros(2, 3, *size))
    assert list(maps) == list(backbone.channels) == list(LEVELS)
    for level, found in maps.items():
        stride = 2 ** int(level[1])
        assert found.shape == (2, backbone.channels[level], -(-size[0] // stride), -(-size[1] // stride))


def test_only_the_levels_asked_for_come_out() -> None:
    for name in ("resnet18", "mobilenet_v2", "resnet_narrow"):
        backbone = BACKBONES[name]("frozen", ("C3", "C5")).eval()
        assert list(backbone.channels) == list(backbone(torch.zeros(1, 3, 64, 64))) == ["C3", "C5"]


def test_depths_of_the_larger_ones() -> None:
    with torch.device("meta"):
        for name, parameters in (("resnet34", 21_284_672), ("resnet101", 42_500_160), ("resnet152", 58_143_808)):
            backbone = BACKBONES[name]("batch", LEVELS)
            # torchvision's published totals, less the classifier
            assert sum(p.numel() for p in backbone.parameters()) == parameters


def torchvision_twin(name: str) -> nn.Module:
    torch.manual_seed(0)
    twin = getattr(torchvision.models, name)(weights=None)
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics that matter
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return twin.eval()


@pytest.mark.parametrize("norm", ["frozen", "batch", "sync"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2"])
def test_torchvisions_weights_load_by_name_and_give_its_features(
    name: str, norm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if norm != "frozen" and name not in ("resnet18", "mobilenet_v2"):
        pytest.skip("one of a kind is enough")
    twin = torchvision_twin(name)
    path = tmp_path / "twin.pth"
    torch.save(twin.state_dict(), path)
    with caplog.at_level(logging.WARNING, logger="vision_tasks"):
        model = with_backbone(name, path, norm=norm)
    assert not caplog.records, caplog.text
    body = {k: v for k, v in twin.state_dict().items() if not k.startswith(("fc.", "classifier."))}
    own = model.backbone.state_dict()
    if norm == "frozen":  # which keeps no counter
        body = {k: v for k, v in body.items() if not k.endswith("num_batches_tracked")}
    assert own.keys() == body.keys()
    assert all(torch.equal(own[k], body[k]) for k in body)
    nodes = MOBILENET_NODES if name == "mobilenet_v2" else RESNET_NODES
    extractor = create_feature_extractor(twin, {node: level for level, node in nodes.items() if level != "C1"})
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = extractor(images), model.backbone(images)
    assert found.keys() == expected.keys()
    for level in found:
        torch.testing.assert_close(found[level], expected[level], rtol=1e-4, atol=1e-4 * float(expected[level].std()))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "resnet_narrow"])
@pytest.mark.parametrize("trainable", [0, 2, 5])
def test_frozen_stages_do_not_change_in_a_step(name: str, trainable: int) -> None:
    torch.manual_seed(0)
    backbone = BACKBONES[name]("batch", LEVELS)
    backbone.freeze(trainable)
    backbone.train()
    stage_of = {
        id(tensor): level
        for level, modules in backbone.stages()
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
    }
    before = {k: v.clone() for k, v in backbone.state_dict(keep_vars=True).items()}
    learning = [p for p in backbone.parameters() if p.requires_grad]
    if learning:
        optimizer = torch.optim.SGD(learning, lr=0.1, weight_decay=0.1)
        sum(m.square().mean() for m in backbone(torch.randn(4, 3, 64, 64)).values()).backward()
        optimizer.step()
    else:
        backbone(torch.randn(4, 3, 64, 64))
    moved, still = set(), set()
    for key, value in backbone.state_dict(keep_vars=True).items():
        level = stage_of[id(value)]
        (still if torch.equal(value, before[key]) else moved).add(level)
        if level in LEVELS[: 5 - trainable]:
            assert torch.equal(value, before[key]), f"{key} of frozen {level} moved"
    assert moved == set(LEVELS[5 - trainable :]), "a stage that should learn did not"


def test_freezing_refuses_nonsense() -> None:
    for stages in (-1, 6):
        with pytest.raises(ValueError, match=r"0\.\.5"):
            BACKBONES["resnet_narrow"]("batch", LEVELS).freeze(stages)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "resnet_narrow"])
def test_norms_are_what_was_asked_for(name: str, norm: str) -> None:
    kinds = {
        type(m)
        for m in BACKBONES[name](norm, LEVELS).modules()
        if type(m).__name__.endswith("Norm2d") or isinstance(m, tuple(NORMS.values()))
    }
    assert kinds == {NORMS[norm]}


def test_frozen_norms_never_move_in_training() -> None:
    backbone = BACKBONES["resnet_narrow"]("frozen", LEVELS).train()
    before = {k: v.clone() for k, v in backbone.named_buffers()}
    backbone(torch.randn(2, 3, 64, 64))["C5"].sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in backbone.named_buffers())
    assert not any("bn" in name for name, _ in backbone.named_parameters())


def test_complete_real_weights_load_without_a_word(real_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = real_data / "weights" / "mobilenet_v2.pth"
    with caplog.at_level(logging.WARNING, logger="vision_tasks"):
        model = with_backbone("mobilenet_v2", path)
    assert not caplog.records, caplog.text
    twin = torchvision.models.mobilenet_v2(weights=None)
    twin.load_state_dict(torch.load(path, weights_only=True))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(model.backbone(images)["C5"], twin.eval().features(images), rtol=1e-4, atol=1e-4)


def test_partial_real_weights_say_what_they_lack(real_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="vision_tasks"):
        with_backbone("resnet18", real_data / "weights" / "resnet18_stem_to_layer3.pth")
    assert len(caplog.records) == 1
    assert "lacks weights that stay random: layer4.0.bn1.bias" in caplog.text
    assert "more" in caplog.text


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / "other.pth")
    with pytest.raises(vt.VisionTasksError, match=r"No weight in .*other\.pth fits.*another architecture"):
        with_backbone("resnet18", tmp_path / "other.pth")
