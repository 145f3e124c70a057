"""Dilated backbones and those for other than three channels, against torchvision's and timm's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.mobilenetv3 import MobileNetV3, _mobilenet_v3_conf
from torchvision.ops.misc import SqueezeExcitation

import vision_tasks as vt
from vision_tasks.backbones.base import NORMS, Backbone
from vision_tasks.backbones.dilation import adapt_channels
from vision_tasks.backbones.registry import BACKBONES, build_backbone
from vision_tasks.weights import files

TOP = ("C3", "C4", "C5")


def shaken(module: nn.Module) -> nn.Module:
    """Weights and statistics far from their first values, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for key, value in module.state_dict().items():
        if value.ndim > 1:
            value.normal_(0, value[0].numel() ** -0.5, generator=generator)
        elif key.endswith(("weight", "running_var")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point():
            value.normal_(0, 0.2, generator=generator)
    return module.eval()


def noise(*size: int) -> Tensor:
    return torch.randn(1, *size, generator=torch.Generator().manual_seed(1))


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.std()))


def load(backbone: Backbone, state: dict[str, Tensor]) -> Backbone:
    fit = files.load_fitting(backbone, backbone.rename(state), "twin", backbone.left_out)
    assert fit.missing == fit.unexpected == fit.reshaped == []
    return backbone.eval()


def v3(arch: str) -> nn.Module:
    settings, last = _mobilenet_v3_conf(arch, dilated=True)
    return MobileNetV3(settings, last)


TORCHVISION: dict[str, Callable[[], nn.Module]] = {
    "resnet50/16": lambda: torchvision.models.resnet50(replace_stride_with_dilation=[False, False, True]),
    "resnet50/8": lambda: torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]),
    "mobilenet_v3_large/16": lambda: v3("mobilenet_v3_large"),
    "mobilenet_v3_small/16": lambda: v3("mobilenet_v3_small"),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] if case == "resnet50/16" else []) for case in TORCHVISION]
)
def test_the_maps_of_torchvisions_dilated_networks(case: str) -> None:
    name, stride = case.split("/")
    twin = shaken(TORCHVISION[case]())
    nodes = {"resnet50": ["layer2", "layer3", "layer4"]}.get(name)
    if nodes is None:
        nodes = [f"features.{i}" for i in ((6, 12, 16) if "large" in name else (3, 8, 12))]
    maps: dict[str, Tensor] = {}
    for node, level in zip(nodes, TOP, strict=True):
        twin.get_submodule(node).register_forward_hook(
            lambda _module, _inputs, output, level=level: maps.update({level: output.clone()})
        )
    backbone = load(build_backbone(name, "frozen", TOP, output_stride=int(stride)), twin.state_dict())
    images = noise(3, 75, 96)
    with torch.inference_mode():
        twin(images)
        found = backbone(images)
    assert list(found) == list(TOP)
    for level in TOP:
        close(found[level], maps[level])


# Whose every layer looks at a neighbourhood: squeeze-and-excitation sees the mean of the whole map, and is taken out.
EXACT = (
    *("resnet18", "resnext50_32x4d", "mobilenet_v2", "efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf"),
    *(
        "convnext_tiny",
        "vgg11_bn",
        "densenet121",
        "squeezenet1_0",
        "squeezenet1_1",
        "csp_darknet_nano",
        "resnet_narrow",
    ),
)


HEAVY = (
    *("convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "resnext50_32x4d", "vgg11_bn"),
    *("mobilenet_v3_large", "squeezenet1_0"),
)


def quick_first(names: Iterable[str], quick: Iterable[str]) -> list[Any]:
    """The names as parameters, those that take long marked as slow."""
    quick = set(quick) - set(HEAVY)
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", quick_first(EXACT, EXACT))
def test_a_dilated_network_holds_its_coarser_self(name: str) -> None:
    whole = shaken(build_backbone(name, "frozen", None))
    levels = tuple(whole.channels)
    dilated = {
        stride: load(build_backbone(name, "frozen", levels, None, stride), whole.state_dict()) for stride in (16, 8)
    }
    for network in (whole, *dilated.values()):
        for place, module in list(network.named_modules()):
            if isinstance(module, SqueezeExcitation):
                network.set_submodule(place, nn.Identity())
    # A side that was rounded down left cells out, which the finer map has.
    rounds_down = name.startswith(("convnext", "vgg", "densenet", "squeezenet", "unet"))
    for size in ((64, 96),) if rounds_down else ((64, 96), (88, 56)):
        images = noise(3, *size)
        with torch.inference_mode():
            coarse = whole(images)
            for stride, network in dilated.items():
                for level, found in network(images).items():
                    step = max(1, 2 ** int(level[1]) // stride)
                    height, width = coarse[level].shape[-2:]
                    close(found[..., ::step, ::step][..., :height, :width], coarse[level])
                    if step > 1:
                        assert found.shape[-2:] == network(images)[f"C{stride.bit_length() - 1}"].shape[-2:]


SMALL = (*EXACT, "mobilenet_v3_large", "mobilenet_v3_small", "squeezenet1_0")
ALL = [n for n in BACKBONES if "400mf" in n or not n.endswith("gf")]  # the larger RegNets have no meta device


@pytest.mark.parametrize("name", quick_first(ALL, SMALL))
def test_every_backbone_can_be_dilated_and_take_any_channels(name: str) -> None:
    levels = ("C2", "C4" if name.startswith("unet") else "C5")
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        plain = build_backbone(name, "batch", levels).to("meta")
        backbone = build_backbone(name, "batch", levels, output_stride=8, in_channels=4).to("meta")
    shapes = {k: v.shape for k, v in backbone.state_dict().items()}
    differ = [k for k, v in plain.state_dict().items() if shapes.pop(k) != v.shape]
    assert len(differ) == 1
    assert not shapes
    assert backbone.in_channels == 4
    maps = backbone.train()(torch.zeros(2, 4, 64, 96, device="meta"))
    assert maps["C2"].shape[2:] == (16, 24)
    assert maps[levels[1]].shape == (2, plain.channels[levels[1]], 8, 12)
    sum(m.sum() for m in maps.values()).backward()
    assert not [key for key, p in backbone.named_parameters() if p.grad is None]


@pytest.mark.parametrize(
    ("channels", "name"),
    [
        *((channels, name) for channels in (1, 2, 6) for name in ("mobilenet_v2", "csp_darknet_nano")),
        *((1, "convnext_tiny"), (2, "densenet121")),
        *(pytest.param(channels, "convnext_tiny", marks=pytest.mark.slow) for channels in (2, 6)),
        *(pytest.param(channels, "densenet121", marks=pytest.mark.slow) for channels in (1, 6)),
    ],
)
def test_rgb_weights_serve_other_channels(name: str, channels: int) -> None:
    rgb = shaken(build_backbone(name, "frozen", ("C2",)))
    other = load(build_backbone(name, "frozen", ("C2",), in_channels=channels), rgb.state_dict())
    if channels == 2:  # red, green -> 3/2 of what red and green alone give
        x = noise(2, 32, 64)
        equal = torch.cat([x * 1.5, torch.zeros_like(x[:, :1])], dim=1)
    else:  # grey, or RGB twice
        x = noise(1, 32, 64) if channels == 1 else noise(3, 32, 64).repeat(1, 2, 1, 1)
        equal = x.expand(1, 3, 32, 64) if channels == 1 else x[:, :3]
    with torch.inference_mode():
        close(other(x)["C2"], rgb(equal)["C2"])


def test_adapted_weights_by_hand() -> None:
    weight = torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1)
    assert adapt_channels(weight, 1).flatten().tolist() == [7]
    assert adapt_channels(weight, 3).flatten().tolist() == [1, 2, 4]
    assert adapt_channels(weight, 4).flatten().tolist() == [0.75, 1.5, 3, 0.75]


def test_weights_for_these_very_channels_are_left_alone() -> None:
    first = build_backbone("resnet_narrow", "batch", TOP, in_channels=6)
    again = load(build_backbone("resnet_narrow", "batch", TOP, in_channels=6), first.state_dict())
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in again.state_dict().items())


@pytest.mark.parametrize("norm", NORMS)
def test_freezing_and_norms_are_as_before(norm: str) -> None:
    backbone = build_backbone("resnet18", norm, TOP, output_stride=8)
    backbone.freeze(2)
    assert {n.split(".")[0] for n, p in backbone.named_parameters() if p.requires_grad} == {"layer3", "layer4"}


@pytest.mark.parametrize(
    ("stride", "name"),
    [
        (8, "resnet18"),
        (16, "mobilenetv2_050"),
        pytest.param(16, "resnet18", marks=pytest.mark.slow),
        pytest.param(8, "mobilenetv2_050", marks=pytest.mark.slow),
    ],
)
def test_the_maps_of_timms_dilated_networks(name: str, stride: int) -> None:
    timm: Any = pytest.importorskip("timm")
    whole = shaken(timm.create_model(name, pretrained=False, output_stride=stride, in_chans=2))
    maps: dict[str, Tensor] = {}
    nodes = {"resnet18": ("layer2", "layer3", "layer4"), "mobilenetv2_050": ("blocks.2", "blocks.4", "blocks.6")}
    for node, level in zip(nodes[name], TOP, strict=True):
        whole.get_submodule(node).register_forward_hook(
            lambda _module, _inputs, output, level=level: maps.update({level: output.clone()})
        )
    images = noise(2, 75, 96)
    backbone = load(
        build_backbone(f"timm/{name}", "frozen", TOP, output_stride=stride, in_channels=2), whole.state_dict()
    )
    with torch.inference_mode():
        whole(images)
        found = backbone(images)
    for level in TOP:
        close(found[level], maps[level])
        assert found[level].shape[-2:] == tuple(-(-s // min(stride, 2 ** int(level[1]))) for s in (75, 96))


def test_our_dilated_resnet18_is_timms() -> None:
    timm: Any = pytest.importorskip("timm")
    whole = shaken(timm.create_model("resnet18", pretrained=False, output_stride=8, num_classes=0, global_pool=""))
    ours = load(build_backbone("resnet18", "batch", ("C5",), output_stride=8), whole.state_dict())
    with torch.inference_mode():
        close(ours(noise(3, 64, 64))["C5"], whole(noise(3, 64, 64)))


def test_rgb_weights_of_timm_serve_other_channels() -> None:
    timm: Any = pytest.importorskip("timm")
    whole = shaken(timm.create_model("convnext_atto", pretrained=False))
    rgb, grey = (build_backbone("timm/convnext_atto", "batch", ("C2",), in_channels=n) for n in (3, 1))
    load(rgb, whole.state_dict())
    load(grey, whole.state_dict())
    x = noise(1, 64, 64)
    with torch.inference_mode():
        close(grey(x)["C2"], rgb(x.expand(1, 3, 64, 64))["C2"])


def test_what_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="output_stride must be 32, 16 or 8, not 4"):
        build_backbone("resnet18", "batch", TOP, output_stride=4)
    with pytest.raises(ValueError, match="at least 1"):
        build_backbone("resnet18", "batch", TOP, in_channels=0)

    class Mine(Backbone):
        pass

    monkeypatch.setitem(BACKBONES, "mine", lambda _norm, _levels, _eps: Mine({"C5": 8}))
    with pytest.raises(vt.VisionTasksError, match=r"mine has no output stride but 32.*resnet50"):
        build_backbone("mine", "batch", TOP, output_stride=16)
    pytest.importorskip("timm")
    with pytest.raises(vt.VisionTasksError, match=r"densenet121.*output_stride.*resnet50"):
        build_backbone("timm/densenet121", "batch", TOP, output_stride=16)
