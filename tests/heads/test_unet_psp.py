"""Decoders of U-Net and PSPNet, against slow loops and segmentation_models_pytorch's parts."""

from __future__ import annotations

import itertools
import math
import re

import pytest
import torch
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPModule
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.backbones.base import BatchNorm
from vision_tasks.heads.psp import PSPDecoder, PyramidPooling
from vision_tasks.heads.unet import UNetDecoder
from vision_tasks.ops.double_conv import double_conv

CHANNELS = {"C1": 4, "C2": 6, "C3": 8}


def pyramid(height: int, width: int, up: bool = True) -> dict[str, Tensor]:
    """Maps of an image of this size, whose sides were rounded up or down."""
    generator = torch.Generator().manual_seed(0)
    rounded = math.ceil if up else math.floor
    maps = {}
    for level, channels in CHANNELS.items():
        height, width = rounded(height / 2), rounded(width / 2)
        maps[level] = torch.randn(2, channels, height, width, generator=generator)
    return maps


@pytest.mark.parametrize("upsampling", ["nearest", "transposed"])
@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("size", [(32, 24), (31, 25), (17, 40)])
def test_unet_draws_at_full_size_whatever_the_size(upsampling: str, up: bool, size: tuple[int, int]) -> None:
    decoder = UNetDecoder(CHANNELS, 5, (7, 5, 3), upsampling=upsampling)  # type: ignore[arg-type]
    maps = pyramid(*size, up=up)
    logits = decoder(maps, size)
    assert logits.shape == (2, 5, *size)
    logits.sum().backward()
    assert not [name for name, p in decoder.named_parameters() if p.grad is None]
    shapes = {name: dict(decoder.named_parameters())[name].shape[0] for name in decoder.class_parameters()}
    assert shapes == {"classifier.weight": 5, "classifier.bias": 5}


def test_a_level_that_is_not_there_is_passed_over() -> None:
    decoder = UNetDecoder({"C2": 6, "C3": 8}, 2, (7, 5, 3)).eval()
    maps = pyramid(32, 24)
    assert decoder.levels == ("C2", "C3")
    first, second, third = decoder.blocks
    assert second.convs[0].in_channels == 7  # C1 is lacking
    with torch.inference_mode():
        x = first.convs(torch.cat([F.interpolate(maps["C3"], scale_factor=2.0), maps["C2"]], dim=1))
        x = second.convs(F.interpolate(x, scale_factor=2.0))
        x = third.convs(F.interpolate(x, scale_factor=2.0))
        torch.testing.assert_close(decoder(maps, (32, 24)), decoder.classifier(x))


def test_a_transposed_map_is_cut_or_continued_at_the_end() -> None:
    decoder = UNetDecoder({"C1": 1}, 1, (1,), norm=None, upsampling="transposed", kernel=1)
    (block,) = decoder.blocks
    with torch.no_grad():
        for part in (block.up.weight, decoder.classifier.weight):
            part.fill_(1)
        for part in (block.up.bias, decoder.classifier.bias):
            part.zero_()
    block.convs = nn.Identity()
    x = torch.tensor([[[[1.0, 2.0]]]])
    with torch.inference_mode():
        assert decoder({"C1": x}, (1, 3))[0, 0].tolist() == [[1, 1, 2]]
        assert decoder({"C1": x}, (3, 5))[0, 0].tolist() == [[1, 1, 2, 2, 2]] * 3


def test_widths_must_fit_the_doublings() -> None:
    with pytest.raises(ValueError, match="widths has 2 values, but 3 doublings lead from C3"):
        UNetDecoder(CHANNELS, 2, (8, 8))


def test_convolutions_without_norm_have_a_bias_and_keep_the_spread() -> None:
    torch.manual_seed(0)
    plain = double_conv(64, 64, None)
    assert [type(m).__name__ for m in plain] == ["Conv2d", "ReLU", "Conv2d", "ReLU"]
    x = torch.randn(1, 64, 16, 16)
    out = plain(x)[..., 2:-2, 2:-2]
    assert 0.7 < float(out.detach().square().mean()) < 1.4  # He et al.: the second moment of ReLU's output stays
    assert [m.bias is None for m in double_conv(4, 4, nn.BatchNorm2d) if isinstance(m, nn.Conv2d)] == [True, True]


def means(x: Tensor, parts: int) -> Tensor:
    """Over `parts` × `parts` rectangles that share a row or column where the side does not divide; by loops."""
    height, width = x.shape[-2:]
    out = x.new_zeros(*x.shape[:2], parts, parts)
    for i, j in itertools.product(range(parts), repeat=2):
        rows = slice(math.floor(i * height / parts), math.ceil((i + 1) * height / parts))
        columns = slice(math.floor(j * width / parts), math.ceil((j + 1) * width / parts))
        out[..., i, j] = x[..., rows, columns].mean(dim=(2, 3))
    return out


def enlarged(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear at pixel centres; by loops."""
    out = x.new_zeros(*x.shape[:2], height, width)
    for i, j in itertools.product(range(height), range(width)):
        y = min(max((i + 0.5) * x.shape[-2] / height - 0.5, 0), x.shape[-2] - 1)
        z = min(max((j + 0.5) * x.shape[-1] / width - 0.5, 0), x.shape[-1] - 1)
        for row, column in itertools.product({math.floor(y), math.ceil(y)}, {math.floor(z), math.ceil(z)}):
            out[..., i, j] += x[..., row, column] * (1 - abs(y - row)) * (1 - abs(z - column))
    return out


def test_pyramid_pooling_is_what_loops_give() -> None:
    torch.manual_seed(0)
    pooling = PyramidPooling(8, BatchNorm).eval()
    for branch in pooling.branches:
        branch[1].running_mean.normal_()
        branch[1].running_var.uniform_(0.5, 2)
    x = torch.randn(2, 8, 9, 7)
    with torch.inference_mode():
        parts = [enlarged(b(means(x, n)), 9, 7) for n, b in zip((1, 2, 3, 6), pooling.branches, strict=True)]
        found = pooling(x)
    assert found.shape[1] == pooling.channels == 16
    torch.testing.assert_close(found, torch.cat([x, *parts], dim=1))


def test_pyramid_pooling_with_aligned_corners_is_that_of_a_peer() -> None:
    torch.manual_seed(0)
    ours, theirs = PyramidPooling(12, nn.BatchNorm2d, (2, 3, 6), align_corners=True), PSPModule(12, (2, 3, 6))
    state = {re.sub(r"branches\.(\d)", r"blocks.\1.pool.1", name): value for name, value in ours.state_dict().items()}
    theirs.load_state_dict(state)
    x = torch.randn(2, 12, 10, 13)
    with torch.inference_mode():
        first = theirs(x)  # the peer's order is: parts, then the map
        torch.testing.assert_close(ours(x), torch.cat([first[:, 12:], first[:, :12]], dim=1))


def test_psp_learns_from_a_single_image() -> None:
    torch.manual_seed(0)
    decoder = PSPDecoder("C5", 16, 3, BatchNorm, width=8).train()
    logits = decoder({"C5": torch.randn(1, 16, 6, 5)}, (48, 40))
    assert logits.shape == (1, 3, 6, 5)
    logits.square().sum().backward()
    assert not [name for name, p in decoder.named_parameters() if p.grad is None]
    # Fewer cells than parts: some cells are in several.
    assert decoder({"C5": torch.randn(1, 16, 2, 3)}, (16, 24)).isfinite().all()


def test_no_parts_are_refused() -> None:
    for sizes in ((), (1, 0)):
        with pytest.raises(ValueError, match="sizes must be numbers of parts"):
            PyramidPooling(8, BatchNorm, sizes)
