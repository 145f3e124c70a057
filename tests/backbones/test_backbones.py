"""Backbones against torchvision's own models: the same weights in, the same maps out."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models import list_models
from torchvision.models.detection.backbone_utils import _mobilenet_extractor

import vision_tasks as vt
from tests.tiny_model import OPTIONS
from vision_tasks.backbones.base import LEVELS, NORMS, Backbone
from vision_tasks.backbones.registry import BACKBONES, build_backbone
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.weights import files

# One small network of each family.
SMALL = (
    *("resnet18", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b0"),
    *("efficientnet_v2_s", "regnet_x_400mf", "regnet_y_400mf", "convnext_tiny", "vgg11", "vgg11_bn", "densenet121"),
    *("squeezenet1_0", "squeezenet1_1", "resnet_narrow"),
)
# Others of a family tell little that its first does not.
FURTHER = {"resnext50_32x4d", "mobilenet_v3_large", "efficientnet_v2_s", "regnet_x_400mf", "vgg11_bn", "squeezenet1_0"}
EACH = [pytest.param(name, marks=[pytest.mark.slow] if name in FURTHER else []) for name in SMALL]
WITHOUT_NORM = ("convnext", "squeezenet", "vgg11 ", "vgg13 ", "vgg16 ", "vgg19 ")
# Sides that halve downwards somewhere, and so cannot be told from the stride alone.
ROUNDED_DOWN = ("convnext", "vgg", "densenet", "squeezenet")


def has_norm(name: str) -> bool:
    return not f"{name} ".startswith(WITHOUT_NORM)


def levels_of(name: str) -> tuple[str, ...]:
    return LEVELS[1:] if name.startswith("convnext") else LEVELS


def on_meta(name: str, norm: str = "batch", levels: tuple[str, ...] | None = None) -> Backbone:
    """Without weights. RegNets compute their widths with tensors, so they need real ones."""
    levels = levels or levels_of(name)
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        return build_backbone(name, norm, levels).to("meta")


@pytest.mark.parametrize("name", EACH)
def test_channels_and_strides_are_as_declared(name: str) -> None:
    backbone = on_meta(name)
    for size in ((64, 96), (75, 50)):
        maps = backbone(torch.zeros(1, 3, *size, device="meta"))
        assert list(maps) == list(backbone.channels) == list(levels_of(name))
        for level, found in maps.items():
            stride = 2 ** int(level[1])
            up = tuple(-(-side // stride) for side in size)
            assert found.shape[:2] == (1, backbone.channels[level])
            if size == (64, 96) or not name.startswith(ROUNDED_DOWN):
                assert found.shape[2:] == up
            else:
                assert all(side - 1 <= there <= side for there, side in zip(found.shape[2:], up, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in list_models(torchvision.models)
        if name in BACKBONES and name not in SMALL and not name.endswith("gf")
    ],
)
def test_the_larger_ones_are_built_alike(name: str) -> None:
    backbone = on_meta(name)
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        twin = getattr(torchvision.models, name)(weights=None)
    used = {k: v for k, v in twin.state_dict().items() if k not in backbone.left_out}
    assert {k: v.shape for k, v in backbone.state_dict().items()} == {k: v.shape for k, v in used.items()}
    assert {k.split(".")[0] for k in backbone.left_out} <= {"fc", "classifier", "features"}
    for level, found in backbone(torch.zeros(2, 3, 64, 96, device="meta")).items():
        stride = 2 ** int(level[1])
        assert found.shape == (2, backbone.channels[level], 64 // stride, 96 // stride)


@pytest.mark.parametrize("name", EACH)
def test_no_parameter_goes_without_a_gradient(name: str) -> None:
    backbone = on_meta(name, levels=("C3", "C4")).train()
    maps = backbone(torch.zeros(2, 3, 64, 64, device="meta"))
    assert list(maps) == ["C3", "C4"]
    sum(m.sum() for m in maps.values()).backward()
    assert not [name for name, p in backbone.named_parameters() if p.grad is None]


# torchvision's node of each level.
NODES: dict[str, tuple[str, ...]] = {
    "resnet18": ("relu", "layer1", "layer2", "layer3", "layer4"),
    "mobilenet_v2": tuple(f"features.{n}" for n in (1, 3, 6, 13, 18)),
    "mobilenet_v3_large": tuple(f"features.{n}" for n in (1, 3, 6, 12, 16)),
    "mobilenet_v3_small": tuple(f"features.{n}" for n in (0, 1, 3, 8, 12)),
    "efficientnet_b0": tuple(f"features.{n}" for n in (1, 2, 3, 5, 7)),
    "efficientnet_v2_s": tuple(f"features.{n}" for n in (1, 2, 3, 5, 6)),
    "regnet_y_400mf": ("stem", *(f"trunk_output.block{n}" for n in (1, 2, 3, 4))),
    "convnext_tiny": tuple(f"features.{n}" for n in (1, 3, 5, 7)),
    "vgg11": tuple(f"features.{n}" for n in (4, 9, 14, 19, 20)),
    "vgg11_bn": tuple(f"features.{n}" for n in (6, 13, 20, 27, 28)),
    "densenet121": ("features.relu0", *(f"features.transition{n}.relu" for n in (1, 2, 3)), "features"),
    "squeezenet1_0": tuple(f"features.{n}" for n in (1, 5, 10, 12)),
    "squeezenet1_1": tuple(f"features.{n}" for n in (1, 4, 7, 12)),
}

# More than a second each.
TAKES_LONG = (
    *("mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_v2_s", "vgg11", "regnet_y_400mf"),
    *("convnext_tiny", "densenet121", "squeezenet1_0"),
)


def torchvision_twin(name: str) -> nn.Module:
    """torchvision's network without its classifier, its weights and statistics far from their first values."""
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        twin = getattr(torchvision.models, name)(weights=None)
    for head in ("fc", "classifier"):
        if hasattr(twin, head):
            setattr(twin, head, nn.Identity())
    twin.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for key, value in twin.state_dict().items():
        if value.ndim > 1:
            value.normal_(0, value[0].numel() ** -0.5, generator=generator)
        elif key.endswith(("weight", "running_var")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point():
            value.normal_(0, 0.2, generator=generator)
    return twin.eval()


def loaded(name: str, norm: str, levels: tuple[str, ...], state: dict[str, torch.Tensor]) -> Backbone:
    """With all weights of a published file, none missing and none left over."""
    backbone = on_meta(name, norm, levels).to_empty(device="cpu")
    fit = files.load_fitting(backbone, backbone.rename(state), "twin", backbone.left_out)
    assert fit.missing == fit.unexpected == fit.reshaped == []
    return backbone.eval()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in TAKES_LONG else []) for name in NODES]
)
def test_torchvisions_weights_load_by_name_and_give_its_features(name: str) -> None:
    twin = torchvision_twin(name)
    expected: dict[str, torch.Tensor] = {}
    for node, level in zip(NODES[name], levels_of(name), strict=not name.startswith("squeezenet")):
        twin.get_submodule(node).register_forward_hook(
            lambda _module, _inputs, output, level=level: expected.update({level: output.clone()})
        )
    images = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    # Ours pads the first convolution of a SqueezeNet.
    padding = {"squeezenet1_0": 3, "squeezenet1_1": 1}.get(name, 0)
    with torch.inference_mode():
        twin(F.pad(images, (padding,) * 4))
        if name.startswith("densenet"):
            expected["C5"] = expected["C5"].relu()
        for norm in ("frozen", "batch") if name == "mobilenet_v3_small" else ("frozen",):
            found = loaded(name, norm, levels_of(name), twin.state_dict())(images)
            for level, wanted in expected.items():
                torch.testing.assert_close(found[level], wanted, rtol=1e-4, atol=1e-3 * float(wanted.std()))


@pytest.mark.parametrize("name", ["mobilenet_v3_large", pytest.param("mobilenet_v2", marks=pytest.mark.slow)])
def test_the_levels_that_torchvisions_rcnn_reads(name: str) -> None:
    twin = torchvision_twin(name)
    state = {k: v.clone() for k, v in twin.state_dict().items()}
    body = _mobilenet_extractor(twin, fpn=True, trainable_layers=6).body
    levels = ("C5_first", "C5")
    backbone = loaded(name, "frozen", levels, state)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = body(images), backbone(images)
    assert list(backbone.channels) == list(found) == list(levels)
    assert list(backbone.channels.values()) == [m.shape[1] for m in expected.values()]
    for ours, theirs in zip(found.values(), expected.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3 * float(theirs.std()))


def test_old_names_of_published_densenets() -> None:
    state = torchvision_twin("densenet121").state_dict()
    old = {k.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v for k, v in state.items()}
    assert old.keys() != state.keys()
    backbone = loaded("densenet121", "frozen", LEVELS, old)
    name = "features.denseblock2.denselayer3.norm1.weight"
    assert torch.equal(backbone.state_dict()[name], state[name])


@cache
def first_norm(name: str) -> nn.BatchNorm2d | None:
    """Of torchvision's own network."""
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        own = getattr(torchvision.models, name, torchvision.models.resnet18)()
    return next((m for m in own.modules() if isinstance(m, nn.BatchNorm2d)), None)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("norm", NORMS)
def test_norms_are_what_was_asked_for(name: str, norm: str) -> None:
    ours = on_meta(name, norm)
    kinds = (nn.modules.batchnorm._BatchNorm, NORMS["frozen"])
    found = [m for m in ours.modules() if isinstance(m, kinds)]
    assert {type(m) for m in found} == ({NORMS[norm]} if has_norm(name) else set())
    wanted = first_norm(name)
    assert all(m.eps == wanted.eps and getattr(m, "momentum", wanted.momentum) == wanted.momentum for m in found)


def test_norm_eps_is_honoured() -> None:
    for name in ("mobilenet_v3_small", "resnet_narrow"):
        for norm in NORMS:
            with torch.device("meta"):
                backbone = build_backbone(name, norm, ("C2",), 0.25)
            assert {m.eps for m in backbone.modules() if isinstance(m, NORMS[norm])} == {0.25}


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("trainable", [0, 2, 5])
def test_freezing_stops_the_first_stages_and_only_them(name: str, trainable: int) -> None:
    backbone = on_meta(name)
    backbone.freeze(trainable)
    backbone.train()
    learning, still = LEVELS[5 - trainable :], LEVELS[: 5 - trainable]
    for level, modules in backbone.stages():
        for part in (inner for module in modules for inner in module.modules()):
            assert part.training == (level in learning)
            assert all(p.requires_grad == (level not in still) for p in part.parameters())
    listed = {id(p) for _, modules in backbone.stages() for m in modules for p in m.parameters()}
    assert listed == {id(p) for p in backbone.parameters()}


@pytest.mark.parametrize("trainable", [0, 2, 5])
def test_frozen_stages_do_not_change_in_a_step(trainable: int) -> None:
    torch.manual_seed(0)
    backbone = BACKBONES["resnet_narrow"]("batch", LEVELS)
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
        sum(m.square().mean() for m in backbone(torch.randn(4, 3, 48, 48)).values()).backward()
        optimizer.step()
    else:
        backbone(torch.randn(4, 3, 48, 48))
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


def test_frozen_norms_never_move_in_training() -> None:
    backbone = BACKBONES["resnet_narrow"]("frozen", LEVELS).train()
    before = {k: v.clone() for k, v in backbone.named_buffers()}
    backbone(torch.randn(2, 3, 64, 64))["C5"].sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in backbone.named_buffers())
    assert not any("bn" in name for name, _ in backbone.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1"])
def test_torch_can_export_it_for_any_size(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, "frozen", ("C3", "C5")).eval()
    sides = {2: 32 * torch.export.Dim("h", min=2, max=16), 3: 32 * torch.export.Dim("w", min=2, max=16)}
    exported = torch.export.export(backbone, (torch.zeros(2, 3, 64, 96),), dynamic_shapes=(sides,)).module()
    images = torch.randn(2, 3, 96, 64)
    with torch.inference_mode():
        for level, found in exported(images).items():
            torch.testing.assert_close(found, backbone(images)[level])


def test_names_and_levels_that_do_not_exist() -> None:
    with pytest.raises(vt.VisionTasksError, match=r"no backbone 'resnet-50'\. Did you mean 'resnet50'\?.*timm/NAME"):
        build_backbone("resnet-50", "batch", LEVELS)
    with pytest.raises(vt.VisionTasksError, match=r"convnext_tiny has no C1; its levels are C2, C3, C4, C5"):
        build_backbone("convnext_tiny", "batch", LEVELS)


HEAD = {k: v for k, v in OPTIONS.items() if k != "backbone"} | {"channels": 8, "hidden": 8}


def with_backbone(name: str, weights: Path | None, **options: object) -> VisionModel:
    return vt.create_model("faster_rcnn", ["a"], backbone=name, backbone_weights=weights, **(HEAD | options))


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_complete_real_weights_load_without_a_word(
    name: str, real_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = real_data / "weights" / f"{name}.pth"
    with caplog.at_level(logging.WARNING, logger="vision_tasks"):
        model = with_backbone(name, path)
    assert not caplog.records, caplog.text
    twin = getattr(torchvision.models, name)(weights=None)
    twin.load_state_dict(torch.load(path, weights_only=True))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    level, padding = ("C5", 0) if name == "mobilenet_v2" else ("C4", 1)
    body = build_backbone(name, "frozen", (level,))
    body.load_state_dict({k: v for k, v in model.backbone.state_dict().items() if k in body.state_dict()})
    with torch.inference_mode():
        expected = twin.eval().features(F.pad(images, (padding,) * 4))
        torch.testing.assert_close(body.eval()(images)[level], expected, rtol=1e-4, atol=1e-4)


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
