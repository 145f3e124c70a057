"""U-Nets against segmentation_models_pytorch's, and the original against the paper written down anew."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vision_tasks as vt
from vision_tasks.backbones.base import LEVELS
from vision_tasks.backbones.registry import build_backbone
from vision_tasks.data.dataset import RawBatch
from vision_tasks.models.unet import unet
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories, Target

NAMES = ["ground", "cat", "dog"]


def shaken(module: nn.Module) -> nn.Module:
    """Statistics far from their first values, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for key, value in module.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif key.endswith(("running_mean", "bias")):
            value.normal_(0, 0.2, generator=generator)
    return module.eval()


def our_name(name: str) -> str:
    name = name.replace("encoder.", "backbone.", 1).replace("segmentation_head.0", "heads.semantic.decoder.classifier")
    name = re.sub(r"^decoder\.blocks\.(\d)\.conv1\.", r"heads.semantic.decoder.blocks.\1.convs.", name)
    return re.sub(
        r"^decoder\.blocks\.(\d)\.conv2\.(\d)",
        lambda m: f"heads.semantic.decoder.blocks.{m[1]}.convs.{int(m[2]) + 3}",
        name,
    )


def logits(model: VisionModel, images: Tensor) -> Tensor:
    head: Any = model.named_heads()["semantic"]
    found: Tensor = head.logits(model.features(images), tuple(images.shape[-2:]))
    return found


@pytest.mark.parametrize(
    ("channels", "backbone"),
    [
        (3, "resnet18"),
        (1, "mobilenet_v2"),
        pytest.param(1, "resnet18", marks=pytest.mark.slow),
        pytest.param(3, "mobilenet_v2", marks=pytest.mark.slow),
    ],
)
def test_the_weights_of_a_peer_give_its_logits(backbone: str, channels: int) -> None:
    torch.manual_seed(0)
    theirs = shaken(smp.Unet(backbone, encoder_weights=None, classes=3, in_channels=channels))
    ours = vt.create_model("unet", NAMES, backbone=backbone, in_channels=channels)
    ours.load_state_dict({our_name(k): v for k, v in theirs.state_dict().items()})
    images = torch.randn(2, channels, 64, 96)
    with torch.inference_mode():
        found, expected = logits(ours, images), theirs(images)
    assert found.shape == (2, 3, 64, 96)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def original(images: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Figure 1 of the paper, with padded convolutions, from weights in the order of their use."""
    weights = iter(state.values())

    def twice(x: Tensor) -> Tensor:
        for _ in range(2):
            x = F.conv2d(x, next(weights), next(weights), padding=1).clamp(min=0)
        return x

    down = [twice(images)]
    for _ in range(4):
        down.append(twice(F.max_pool2d(down[-1], 2)))
    x = down.pop()
    while down:
        x = F.conv_transpose2d(x, next(weights), next(weights), stride=2)
        x = twice(torch.cat([x, down.pop()], dim=1))
    x = F.conv2d(x, next(weights), next(weights))
    assert next(weights, None) is None
    return x


def test_the_original_network_is_the_papers() -> None:
    torch.manual_seed(0)
    model = vt.create_model("unet", NAMES, backbone="unet_16", norm="none", in_channels=1)
    state = model.state_dict()
    images = torch.randn(1, 1, 48, 64)
    with torch.inference_mode():
        for name in (name for name in state if name.endswith("bias")):
            state[name].normal_(0, 0.1)
        torch.testing.assert_close(logits(model, images), original(images, state), rtol=1e-4, atol=1e-5)
    assert model.preprocess.stride == 16


def test_the_size_of_the_original() -> None:
    with torch.device("meta"):
        body = build_backbone("unet", "none", None, in_channels=1)
    assert body.channels == {"C0": 64, "C1": 128, "C2": 256, "C3": 512, "C4": 1024}
    model = vt.create_model("unet", ["cell", "ground"], backbone="unet", norm="none", in_channels=1)
    # The paper's figure 1: 23 convolutions, four of them transposed.
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 23
    by_hand = sum(9 * i * o + o for i, o in [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)])
    by_hand += sum(9 * o * o + o for o in (64, 128, 256, 512, 1024))
    by_hand += sum((4 * 2 * o * o + o) + (9 * 2 * o * o + o) + (9 * o * o + o) for o in (512, 256, 128, 64))
    assert sum(p.numel() for p in model.parameters()) == by_hand + 64 * 2 + 2


@pytest.mark.parametrize("norm", ["none", "batch", "frozen"])
def test_norms_of_the_original(norm: str) -> None:
    model = vt.create_model("unet", NAMES, backbone="unet_16", norm=norm)
    kinds = {type(m).__name__ for m in model.modules() if "Norm" in type(m).__name__}
    assert kinds == {"none": set(), "batch": {"BatchNorm"}, "frozen": {"FrozenBatchNorm2d", "BatchNorm"}}[norm]


@pytest.mark.parametrize("backbone", ["resnet_narrow", "unet_16", "vgg11", "convnext_tiny", "squeezenet1_1"])
@pytest.mark.parametrize("size", [(33, 71), pytest.param((64, 64), marks=pytest.mark.slow)])
def test_any_backbone_and_any_size(backbone: str, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = unet(Categories.of(NAMES), backbone).to("meta").train()  # VGG is made on the CPU
        found = logits(model, torch.zeros(2, 3, *size))
    assert found.shape == (2, 3, *size)
    found.sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    reads = model.named_heads()["semantic"].levels
    assert reads == {
        "unet_16": ("C0", *LEVELS[:4]), "vgg11": ("C0", *LEVELS), "convnext_tiny": LEVELS[1:],
    }.get(backbone, LEVELS)  # fmt: skip


def scenes(size: tuple[int, int] = (48, 40), number: int = 2) -> RawBatch:
    generator = torch.Generator().manual_seed(0)
    truths = [torch.zeros(size, dtype=torch.int16) for _ in range(number)]
    images = []
    for i, truth in enumerate(truths):
        truth[8 : 24 + 4 * i, 4:20] = 1
        truth[30:44, 18 + 2 * i : 36] = 2
        truth[:2] = -1
        colours = torch.tensor([[40, 80, 60], [200, 60, 40], [60, 70, 220], [0, 0, 0]])[truth.long()]
        noise = torch.randint(-20, 20, (*size, 3), generator=generator)
        images.append((colours + noise).clamp(0, 255).to(torch.uint8).permute(2, 0, 1))
    targets = [Target(i, size, semantic=truth) for i, truth in enumerate(truths)]
    return RawBatch(images, targets)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unet", {"backbone": "resnet_narrow", "widths": (32, 24, 16, 16, 8)}),
        ("unet", {"backbone": "unet_16", "norm": "none"}),
        ("pspnet", {"backbone": "resnet_narrow", "width": 32}),
    ],
)
@pytest.mark.slow
def test_it_learns_a_scene_and_survives_a_checkpoint(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = vt.create_model(name, NAMES, **options).train()
    raw = scenes()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        losses = model.losses(model.preprocess(raw.images, raw.targets))
        loss = sum(value * model.loss_weights.get(key, 1) for key, value in losses.items())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sorted(losses) == sorted(["semantic/cross_entropy", *(["semantic/auxiliary"] if name == "pspnet" else [])])
    model.eval()
    with torch.inference_mode():
        found = model.predict(model.preprocess(raw.images))
    for prediction, target in zip(found, raw.targets, strict=True):
        assert prediction.semantic.shape == target.semantic.shape
        known = target.semantic >= 0
        right = (prediction.semantic == target.semantic)[known].float().mean()
        assert right > (0.97 if name == "unet" else 0.85)  # PSPNet draws at an eighth of the size
    path = vt.save(model, tmp_path / "model.ckpt")
    with torch.inference_mode():
        again = vt.load(path).predict(model.preprocess(raw.images))
    assert all(torch.equal(a.semantic, b.semantic) for a, b in zip(found, again, strict=True))


def test_pspnet_is_dilated_and_learns_from_one_image() -> None:
    torch.manual_seed(0)
    model = vt.create_model("pspnet", NAMES, backbone="resnet18").train()
    raw = scenes((50, 70), 1)
    batch = model.preprocess(raw.images, raw.targets)
    maps = model.features(batch.images)
    assert {level: tuple(m.shape[-2:]) for level, m in maps.items()} == {"C4": (7, 9), "C5": (7, 9)}
    losses = model.losses(batch)
    assert model.loss_weights == {"semantic/auxiliary": 0.4}
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", ["unet", "pspnet"])
def test_what_is_kept_for_other_categories(name: str) -> None:
    torch.manual_seed(0)
    model = vt.create_model(name, NAMES, backbone="resnet_narrow")
    held = model.state_dict()
    for parameter, parts in model.named_heads()["semantic"].class_parameters().items():
        assert parts == (1, 1)
        assert len(held[f"heads.semantic.{parameter}"]) == 3
    several = vt.create_model(name, NAMES, backbone="resnet_narrow", multi_label=True)
    assert several.named_heads()["semantic"].multi_label


def test_what_cannot_be_had_is_said() -> None:
    with pytest.raises(vt.VisionTasksError, match=r'norm="none" is for the backbones unet, unet_32, unet_16; resnet18'):
        vt.create_model("unet", NAMES, backbone="resnet18", norm="none")
    with pytest.raises(vt.VisionTasksError, match="widths has 2 values, but 5 doublings"):
        vt.create_model("unet", NAMES, backbone="resnet18", widths=(8, 8))
    with pytest.raises(vt.VisionTasksError, match="unet has no C5; its levels are C0, C1, C2, C3, C4"):
        vt.create_model("pspnet", NAMES, backbone="unet")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "pspnet"])
def test_torch_can_export_it_for_any_size(name: str) -> None:
    torch.manual_seed(0)
    model = vt.create_model(name, NAMES, backbone="resnet_narrow")

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            return logits(self.model, images)

    sides = {2: 32 * torch.export.Dim("h", min=2, max=16), 3: 32 * torch.export.Dim("w", min=2, max=16)}
    exported = torch.export.export(Whole().eval(), (torch.zeros(2, 3, 64, 96),), dynamic_shapes=(sides,)).module()
    images = torch.randn(2, 3, 96, 160)
    with torch.inference_mode():
        torch.testing.assert_close(exported(images), logits(model, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.slow
def test_real_weights_serve_other_channels(channels: int, real_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = real_data / "weights" / "mobilenet_v2.pth"
    with caplog.at_level(logging.WARNING, logger="vision_tasks"):
        rgb, other = (
            vt.create_model("unet", NAMES, backbone="mobilenet_v2", backbone_weights=path, in_channels=n, norm="batch")
            for n in (3, channels)
        )
    assert not caplog.records, caplog.text
    grey = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = rgb.features(grey.expand(1, 3, 64, 64))["C5"]
        found = other.features(grey.expand(1, channels, 64, 64))["C5"]
    if channels == 1:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    else:  # red counts twice
        assert float(F.cosine_similarity(found.flatten(), expected.flatten(), dim=0)) > 0.8


def test_a_checkpoint_without_norm_starts_another_without(tmp_path: Path) -> None:
    model = vt.create_model("unet", ["a", "b"], backbone="unet_16", norm="none")
    path = vt.save(model, tmp_path / "plain.ckpt")
    other = vt.create_model("unet", ["b", "c"], weights=path)
    own, theirs = other.state_dict(), model.state_dict()
    assert own.keys() == theirs.keys(), "no layer of norm that starts anew"
    name = next(name for name in own if name.startswith("backbone.") and name.endswith("weight"))
    assert torch.equal(own[name], theirs[name])
