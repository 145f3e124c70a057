"""Folding and packing, layer by layer: what is equal to torch's own layers, and what must stay as it is."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops.misc import FrozenBatchNorm2d

import vision_tasks as vt
from vision_tasks.backbones.base import Backbone
from vision_tasks.heads.fcn import FCNDecoder
from vision_tasks.heads.semantic import SemanticHead
from vision_tasks.inference.speed import packed
from vision_tasks.inference.speed.folding import fold, is_batch_norm
from vision_tasks.inference.speed.packed import FusedBlock, PackedConv2d, PackedLinear, activation, can_pack, pack
from vision_tasks.inference.speed.prepare import prepare
from vision_tasks.inference.speed.trace import trace
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories

needs_onednn = pytest.mark.skipif(not can_pack(), reason="this torch has no oneDNN")


class Body(Backbone):
    """Any layers, in a forward of the test's own."""

    def __init__(self, width: int, forward: Any, **layers: nn.Module) -> None:
        super().__init__({"C1": width})
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"C1": self._forward(self, images)}


def model_on(width: int, forward: Any, **layers: nn.Module) -> VisionModel:
    """Statistics of every norm far from 0 and 1, so that a wrong fold shows."""
    torch.manual_seed(0)
    head = SemanticHead(Categories.of(["a", "b"]), FCNDecoder("C1", width, 2))
    model = VisionModel(Preprocess(resize="none", stride=1), Body(width, forward, **layers), None, {"semantic": head})
    for module in model.modules():
        if is_batch_norm(module):
            for value in (module.weight, module.bias, module.running_mean, module.running_var):
                value.data.uniform_(0.5, 2)
    return model.eval()


def features(model: VisionModel) -> Tensor:
    with torch.inference_mode():
        return model.features(torch.randn(2, 3, 20, 24, generator=torch.Generator().manual_seed(1)))["C1"].float()


def conv(**options: Any) -> nn.Conv2d:
    return nn.Conv2d(3, 4, 3, **options)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, FrozenBatchNorm2d, lambda n: nn.BatchNorm2d(n, eps=0.3)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_norm_behind_a_convolution_is_folded(norm: Any, bias: bool) -> None:
    model = model_on(4, lambda m, x: F.relu(m.norm(m.conv(x))), conv=conv(bias=bias), norm=norm(4))
    want = features(model)
    assert fold(model) == 2  # and that of the head
    assert isinstance(model.backbone.norm, nn.Identity)
    torch.testing.assert_close(features(model), want, rtol=1e-4, atol=1e-4)


def test_a_norm_behind_a_transposed_convolution_is_folded() -> None:
    up = nn.ConvTranspose2d(3, 4, 2, stride=2)
    model = model_on(4, lambda m, x: m.norm(m.up(x)), up=up, norm=nn.BatchNorm2d(4))
    want = features(model)
    assert fold(model) == 2
    torch.testing.assert_close(features(model), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: (lambda y: m.norm(y) + y)(m.conv(x)),  # somebody else reads it afterwards
        lambda m, x: (lambda y: y.relu() + m.norm(y))(m.conv(x)),  # or before
        lambda m, x: m.norm(m.conv(x)) + m.norm(m.conv(x) * 2),  # the norm reads something else, too
        lambda m, x: m.norm(m.conv(x)) + m.conv(x),  # one of two calls has no norm
        lambda m, x: m.norm(m.conv(x).relu()),  # something is in between
        lambda m, x: m.norm(F.relu(m.conv(x), inplace=True)),  # also where it changes the map itself
        lambda m, x: m.conv(m.norm(x.repeat(1, 2, 1, 1)[:, :4])[:, :3]),  # the norm comes first
    ],
)
def test_a_norm_with_other_company_is_left_alone(forward: Any) -> None:
    model = model_on(4, forward, conv=conv(), norm=nn.BatchNorm2d(4))
    want = features(model)
    assert fold(model) == 1
    assert isinstance(model.backbone.norm, nn.BatchNorm2d)
    assert torch.equal(features(model), want)


def test_a_convolution_whose_map_is_handed_out_keeps_it() -> None:
    class Two(Body):
        def forward(self, images: Tensor) -> dict[str, Tensor]:
            raw = self.conv(images)
            return {"C1": self.norm(raw), "C2": raw}

    model = model_on(4, None, conv=conv(), norm=nn.BatchNorm2d(4))
    model.backbone.__class__ = Two
    assert fold(model) == 1


def test_the_trace_counts_calls_and_pairs() -> None:
    model = model_on(4, lambda m, x: m.act(m.conv(x)) + m.act(m.conv(x + 1)), conv=conv(), act=nn.ReLU(inplace=True))
    seen = trace(model, [nn.Conv2d, nn.ReLU])
    assert seen.calls[model.backbone.conv] == 2
    assert seen.only_reader[model.backbone.conv] is model.backbone.act


ACTIVATIONS = [
    nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.Hardswish(), nn.Sigmoid(), nn.Tanh(), nn.LeakyReLU(0.1), nn.GELU(),
    nn.GELU(approximate="tanh"), nn.Hardtanh(-0.5, 0.25),
]  # fmt: skip


@needs_onednn
@pytest.mark.parametrize("act", ACTIVATIONS, ids=str)
def test_a_packed_convolution_equals_torchs_with_the_activation(act: nn.Module) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 16, 3, stride=2, padding=2, dilation=2, groups=4).requires_grad_(False)
    name = activation(act)
    assert name is not None
    layer = PackedConv2d(plain, torch.float32, name)
    for shape in ((2, 8, 17, 30), (1, 8, 40, 40), (2, 8, 17, 30), (0, 8, 12, 12)):
        x = torch.randn(shape)
        torch.testing.assert_close(layer(x), act(plain(x)), rtol=1e-4, atol=1e-5)


@needs_onednn
def test_packed_layers_take_what_dtype_there_is_and_survive_copying() -> None:
    torch.manual_seed(0)
    plain, linear = nn.Conv2d(6, 5, 1, bias=False), nn.Linear(12, 7)
    x, rows = torch.randn(1, 6, 9, 9), torch.randn(4, 12)
    convolution = PackedConv2d(plain.requires_grad_(False), torch.bfloat16)
    product = PackedLinear(linear.requires_grad_(False), torch.bfloat16)
    for layer, given, want in ((convolution, x, plain(x)), (product, rows, linear(rows))):
        found = layer(given)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), want, rtol=0.02, atol=0.02)
        assert torch.equal(copy.deepcopy(layer)(given), found)
    assert product(rows[:0]).shape == (0, 7)
    assert product(torch.randn(2, 3, 12)).shape == (2, 3, 7)


@needs_onednn
def test_wide_dilation_stays_float32_where_amx_would_slow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for instructions, want in (("AMX", torch.float32), ("AVX512-BF16", torch.bfloat16)):
        monkeypatch.setattr(packed, "cpu_bf16", lambda found=instructions: found)
        model = model_on(4, lambda m, x: m.near(m.wide(x)), wide=conv(dilation=12, padding=12), near=nn.Conv2d(4, 4, 3))
        want_maps = features(model)
        pack(model, torch.bfloat16)
        assert model.backbone.wide.weight.dtype == want
        assert model.backbone.near.weight.dtype == torch.bfloat16
        torch.testing.assert_close(features(model), want_maps, rtol=0.05, atol=0.05)


@needs_onednn
@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("stride", [1, 2])
def test_residual_blocks_equal_torchvisions(kind: Any, stride: int) -> None:
    inside = 8 * kind.expansion
    shortcut = nn.Sequential(nn.Conv2d(3, inside, 1, stride, bias=False), nn.BatchNorm2d(inside))
    blocks = nn.Sequential(kind(3, 8, stride, shortcut), kind(inside, 8))
    model = model_on(inside, lambda m, x: m.blocks(x), blocks=blocks)
    want = features(model)
    fold(model)
    pack(model, torch.float32)
    assert all(isinstance(block, FusedBlock) for block in model.backbone.blocks)
    torch.testing.assert_close(features(model), want, rtol=1e-4, atol=1e-4)


@needs_onednn
def test_an_activation_that_several_layers_share_stays_outside() -> None:
    model = model_on(
        4, lambda m, x: m.act(m.conv(x)) + m.act(m.conv2(x)), conv=conv(), conv2=conv(), act=nn.Hardswish()
    )
    want = features(model)
    pack(model, torch.float32)
    assert isinstance(model.backbone.act, nn.Hardswish)
    torch.testing.assert_close(features(model), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "norms_left"),
    [
        ("mobilenet_v3_small", 0),
        pytest.param("squeezenet1_1", 0, marks=pytest.mark.slow),
        pytest.param("regnet_y_400mf", 0, marks=pytest.mark.slow),
        ("densenet121", 62),
        ("timm/resnet10t", 0),
    ],
)
def test_published_networks_say_the_same(backbone: str, norms_left: int) -> None:
    """DenseNet's blocks and transitions begin with a norm each: 58 + 3, and its last."""
    if backbone.startswith("timm/"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    model = vt.create_model("fcos", ["a"], backbone=backbone, channels=16).eval()
    for module in model.modules():
        if is_batch_norm(module):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    ready = prepare(model, "exact", torch.device("cpu"))
    assert sum(is_batch_norm(module) for module in ready.modules()) == norms_left
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        want, got = model.features(images), ready.features(images)
    for level, expected in want.items():
        torch.testing.assert_close(got[level], expected, rtol=1e-3, atol=1e-5 + 1e-4 * float(expected.abs().max()))
