"""Semantic FPN: its decoder against segmentation_models_pytorch's with the same weights, and the model as a whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from segmentation_models_pytorch.decoders.fpn import decoder as peer
from torch import Tensor
from torch.nn import functional as F

import vision_tasks as vt
from vision_tasks.heads.semantic_fpn import SemanticFPNDecoder
from vision_tasks.models.tensor_model import TensorModel
from vision_tasks.structures import Target

LEVELS = ("P2", "P3", "P4", "P5")
SMALL: dict[str, Any] = {"backbone": "resnet_narrow", "channels": 16, "width": 16, "groups": 4}


def pyramid(height: int, width: int, channels: int = 12) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        level: torch.randn(2, channels, -(-height // 2**n), -(-width // 2**n), generator=generator)
        for n, level in enumerate(LEVELS, 2)
    }


def test_decoder_equals_smps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its branches and their sum; it aligns corners when it doubles, which is undone here."""

    def doubled(x: Tensor, scale_factor: float, mode: str, align_corners: bool) -> Tensor:
        assert (mode, align_corners) == ("bilinear", True)
        return F.interpolate(x, scale_factor=scale_factor, mode=mode, align_corners=False)

    monkeypatch.setattr(peer, "F", SimpleNamespace(interpolate=doubled))
    torch.manual_seed(0)
    ours = SemanticFPNDecoder(dict.fromkeys(LEVELS, 12), 5, width=64)
    theirs = torch.nn.ModuleDict({level: peer.SegmentationBlock(12, 64, n) for n, level in enumerate(LEVELS)})
    for level, rounds in ours.rounds.items():
        assert len(list(rounds)) == len(theirs[level].block)
        for mine, other in zip(rounds, theirs[level].block, strict=True):
            for a, b in zip(mine.parameters(), other.parameters(), strict=True):
                torch.nn.init.normal_(a, std=0.3)
                with torch.no_grad():
                    b.copy_(a)
    torch.nn.init.normal_(ours.classifier.weight)
    maps = pyramid(96, 128)
    with torch.no_grad():
        expected = ours.classifier(peer.MergeBlock("add")([theirs[level](maps[level]) for level in LEVELS]))
        found = ours(maps, (96, 128))
    assert found.shape == (2, 5, 24, 32)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("levels", [LEVELS, ("P3", "P4", "P5"), ("P5",)])
@pytest.mark.parametrize("size", [(64, 96), (70, 101), (33, 32)])
def test_any_levels_of_any_pyramid(levels: tuple[str, ...], size: tuple[int, int]) -> None:
    """RetinaNet's begins with P3; images of another model need not be padded to 32."""
    decoder = SemanticFPNDecoder(dict.fromkeys(levels, 12), 3, width=8, groups=2)
    assert decoder.levels == levels
    assert [len(list(rounds)) for rounds in decoder.rounds.values()] == [max(1, int(n[1]) - 2) for n in levels]
    logits = decoder(pyramid(*size), size)
    assert logits.shape == (2, 3, -(-size[0] // 4), -(-size[1] // 4))
    logits.square().sum().backward()
    assert not [name for name, p in decoder.named_parameters() if p.grad is None]
    shapes = {name: decoder.get_parameter(name).shape[0] for name in decoder.class_parameters()}
    assert shapes == {"classifier.weight": 3, "classifier.bias": 3}


def test_it_says_which_numbers_do_not_fit() -> None:
    with pytest.raises(ValueError, match="3 groups do not divide 16 channels"):
        SemanticFPNDecoder({"P2": 4}, 2, width=16, groups=3)
    with pytest.raises(ValueError, match="at least one"):
        SemanticFPNDecoder({}, 2)
    with pytest.raises(vt.VisionTasksError, match="32 groups do not divide 20"):
        vt.create_model("semantic_fpn", ["a", "b"], backbone="resnet_narrow", width=20)
    with pytest.raises(vt.VisionTasksError, match="Did you mean 'dice'"):
        vt.create_model("semantic_fpn", ["a", "b"], **SMALL, losses={"dise": {}})


def scene(seed: int) -> tuple[Tensor, Target]:
    """A dark or bright rectangle on grey: three categories, of which some pixels are not annotated."""
    generator = torch.Generator().manual_seed(seed)
    image, truth = torch.full((3, 70, 90), 0.5), torch.zeros(70, 90, dtype=torch.int16)
    for label, shade in ((1, 0.0), (2, 1.0)):
        y, x = (int(v) for v in torch.randint(0, 40, (2,), generator=generator))
        image[:, y : y + 24, x : x + 30], truth[y : y + 24, x : x + 30] = shade, label
    truth[:, :5] = -1
    return image + 0.02 * torch.randn(image.shape, generator=generator), Target(seed, (70, 90), semantic=truth)


@pytest.mark.slow
def test_it_learns_scenes() -> None:
    torch.manual_seed(0)
    losses = {"cross_entropy": {"label_smoothing": 0.05}, "dice": {}}
    model = vt.create_model("semantic_fpn", ["ground", "dark", "bright"], **SMALL, losses=losses).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    scenes = [scene(i) for i in range(4)]
    for _ in range(40):
        found = model.losses(model.preprocess([i for i, _ in scenes], [t for _, t in scenes]))
        assert set(found) == {"semantic/cross_entropy", "semantic/dice"}
        optimizer.zero_grad()
        sum(found.values()).backward()
        optimizer.step()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    model.eval()
    with torch.inference_mode():
        prediction = model.predict(model.preprocess([scenes[0][0]]))[0]
        assert prediction.semantic is not None
        truth = scenes[0][1].semantic
        assert truth is not None
        assert prediction.semantic.shape == (70, 90)
        right = (prediction.semantic == truth)[truth >= 0].float().mean()
        assert right > 0.9, right


@pytest.mark.parametrize(
    ("categories", "options", "shape"),
    [
        (["road"], {"in_channels": 1}, (1, 40, 50)),
        (["a", "b", "c"], {"multi_label": True, "in_channels": 5}, (3, 40, 50)),
        (["a", "b"], {}, (40, 50)),
    ],
)
def test_one_image_of_any_kind(categories: list[str], options: dict[str, Any], shape: tuple[int, ...]) -> None:
    """One foreground class, layers, labels; in training one image is a batch, and may have no annotated pixel."""
    model = vt.create_model("semantic_fpn", categories, **SMALL, **options).train()
    image = torch.rand(options.get("in_channels", 3), 40, 50)
    for value in (1, -1):
        truth = torch.full(shape, value, dtype=torch.int16 if len(shape) == 2 else torch.int8)
        found = model.losses(model.preprocess([image], [Target(0, (40, 50), semantic=truth)]))
        loss = sum(found.values())
        assert (loss > 0) == (value == 1)
        model.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.inference_mode():
        semantic = model.eval().predict(model.preprocess([image]))[0].semantic
    assert semantic is not None
    assert semantic.shape == shape


@pytest.mark.slow
def test_it_is_captured_for_any_size() -> None:
    model = TensorModel(vt.create_model("semantic_fpn", ["a", "b", "c"], **SMALL)).eval()
    example = (torch.rand(1, 3, 150, 200) * 255, torch.tensor([[150, 200]]))
    any_side = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model, example, dynamic_shapes={"images": any_side, "image_sizes": None}).module()
    for size in ((150, 200), (129, 300)):
        images = torch.rand(1, 3, *size) * 255
        with torch.inference_mode():
            expected = model(images, torch.tensor([size]))["semantic"]
        assert torch.equal(program(images, torch.tensor([size]))["semantic"], expected)
