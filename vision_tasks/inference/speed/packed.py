"""Convolutions whose weights lie as oneDNN reads them, and that apply the activation while they write.

torch lays a convolution's weights out anew in every call, and reads and writes the map once more for the activation. On
one image that is a good part of the time: these are the operators that a compiled model would call, called directly.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck

from vision_tasks.inference.speed.processor import cpu_bf16
from vision_tasks.inference.speed.trace import Trace, trace
from vision_tasks.models.vision_model import VisionModel

log = logging.getLogger("vision_tasks")

Activation = tuple[str, list[float], str]
"""oneDNN's name of a function, its numbers, its variant."""

_NONE: Activation = ("none", [], "")
_PLAIN: dict[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.SiLU: "swish", nn.Hardswish: "hardswish", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh",
}  # fmt: skip
_WIDE = 12  # cells between a dilated convolution's taps
_SHAPES = 64  # input shapes whose weights are remembered, each layout but once


def can_pack() -> bool:
    """Whether this torch has the operators."""
    names = ("_convolution_pointwise", "_linear_pointwise", "_reorder_linear_weight")
    return (
        torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.aten, "mkldnn_reorder_conv2d_weight")
        and all(hasattr(torch.ops.mkldnn, name) for name in names)
    )


def pack(model: VisionModel, dtype: torch.dtype, but: Sequence[nn.Module | None] = ()) -> None:
    """Replace convolutions and products by packed ones of this dtype, in place; activations go into convolutions.

    Args:
        model: in evaluation mode, channels-last on a CPU, batch norm folded. but: parts of it that stay as they are.
    """
    left = {module for part in but if part is not None for module in part.modules()}
    convolutions = [m for m in model.modules() if type(m) is nn.Conv2d and _packable(m) and m not in left]
    seen = trace(model, [nn.Conv2d, nn.Linear, *_PLAIN, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.GELU])
    names = {module: name for name, module in model.named_modules()}
    for conv in convolutions:
        if conv in seen.calls:
            chosen = precision_of(conv, dtype)
            model.set_submodule(names[conv], PackedConv2d(conv, chosen, _taken_over(model, names, seen, conv)))
    for linear, name in names.items():
        if type(linear) is nn.Linear and linear in seen.calls and linear not in left:
            model.set_submodule(name, PackedLinear(linear, dtype))
    for name, block in list(model.named_modules()):
        if isinstance(block, (BasicBlock, Bottleneck)) and FusedBlock.fits(block):
            model.set_submodule(name, FusedBlock(block))


def precision_of(conv: nn.Conv2d, dtype: torch.dtype) -> torch.dtype:
    """The dtype, but float32 for wide dilation where bfloat16 goes through AMX: oneDNN is slower at that, 0.2 to 0.8
    times as fast. With AVX512-BF16 it is twice as fast.
    """
    slow = dtype == torch.bfloat16 and max(conv.dilation) >= _WIDE and cpu_bf16() == "AMX"
    return torch.float32 if slow else dtype


def _packable(conv: nn.Conv2d) -> bool:
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _taken_over(model: VisionModel, names: dict[nn.Module, str], seen: Trace, conv: nn.Module) -> Activation:
    """The activation that alone reads the convolution, which is taken out of the model."""
    reader = seen.only_reader.get(conv)
    found = None if reader is None else activation(reader)
    if reader is None or found is None:
        return _NONE
    model.set_submodule(names[reader], nn.Identity())
    return found


def activation(module: nn.Module) -> Activation | None:
    """What oneDNN calls an activation, if it knows it."""
    if type(module) in _PLAIN:
        return (_PLAIN[type(module)], [], "")
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one
        return ("hardtanh", [float(module.min_val), float(module.max_val)], "")
    if isinstance(module, nn.LeakyReLU):
        return ("leaky_relu", [float(module.negative_slope)], "")
    return ("gelu", [], module.approximate) if isinstance(module, nn.GELU) else None


class _Layouts:
    """A weight as oneDNN wants it for each shape of input. There are one to three layouts; they are made when needed.

    With another layout than it wants, oneDNN is right but up to fifty times slower.
    """

    def __init__(self) -> None:
        self._of_shape: dict[tuple[int, ...], Tensor] = {}
        self._of_layout: dict[bytes, Tensor] = {}

    def __deepcopy__(self, _: Any) -> _Layouts:
        return _Layouts()

    def get(self, shape: tuple[int, ...]) -> Tensor | None:
        return self._of_shape.get(shape)

    def put(self, shape: tuple[int, ...], packed: Tensor) -> Tensor:
        describe = getattr(torch.ops.mkldnn, "_get_mkldnn_serialized_md", None)
        if describe is not None:
            packed = self._of_layout.setdefault(bytes(describe(packed).tolist()), packed)
        if len(self._of_shape) >= (_SHAPES if describe is not None else 4):
            self._of_shape.clear()
        self._of_shape[shape] = packed
        return packed


class PackedConv2d(nn.Module):
    """`nn.Conv2d` and an activation, for prediction. (B, C, h, w) of any dtype -> (B, c, h', w') channels-last."""

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, act: Activation = _NONE) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)
        self.in_channels, self.out_channels, self.groups = conv.in_channels, conv.out_channels, conv.groups
        self.stride, self.padding, self.dilation = list(conv.stride), list(conv.padding), list(conv.dilation)
        self.act = act
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        weight = conv.weight.detach().to(dtype=dtype, memory_format=torch.channels_last)
        self.weight, self.bias = (nn.Parameter(v.to(dtype), requires_grad=False) for v in (weight, bias))
        self._layouts = _Layouts()

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(dtype=self.weight.dtype, memory_format=torch.channels_last)
        if x.numel() == 0:
            return self._unpacked(x)
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(x, *self._arguments(x), *self.act)
        return out

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """relu(convolution + other)."""
        x, other = (t.to(dtype=self.weight.dtype, memory_format=torch.channels_last) for t in (x, other))
        out: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            x, other, *self._arguments(x), "add", 1.0, "relu", [], ""
        )
        return out

    def _arguments(self, x: Tensor) -> tuple[Any, ...]:
        shape = tuple(x.shape)
        packed = self._layouts.get(shape)
        if packed is None:
            packed = self._layouts.put(
                shape,
                torch.ops.aten.mkldnn_reorder_conv2d_weight(
                    self.weight.to_mkldnn(), self.padding, self.stride, self.dilation, self.groups, shape
                ),
            )
        return packed, self.bias, self.padding, self.stride, self.dilation, self.groups

    def _unpacked(self, x: Tensor) -> Tensor:
        """Of no images at all, which oneDNN does not take; no activation changes that there are no values."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class PackedLinear(nn.Module):
    """`nn.Linear` for prediction. (R, C) of any dtype -> (R, c)."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        bias = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach()
        self.weight, self.bias = (nn.Parameter(v.to(dtype), requires_grad=False) for v in (linear.weight, bias))
        self._layouts = _Layouts()

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)
        if x.numel() == 0 or x.ndim != 2:
            return F.linear(x, self.weight, self.bias)
        packed = self._layouts.get((len(x),))
        if packed is None:
            packed = self._layouts.put((len(x),), torch.ops.mkldnn._reorder_linear_weight(self.weight, len(x)))
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, self.bias, *_NONE)
        return out


class FusedBlock(nn.Module):
    """torchvision's residual blocks (He et al. 2015) with their ReLUs, and the sum, inside the convolutions."""

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        convolutions = [block.conv1, block.conv2]
        if isinstance(block, Bottleneck):
            convolutions.append(block.conv3)
        *first, self.last = convolutions
        for conv in first:
            conv.act = ("relu", [], "")
        self.first = nn.Sequential(*first)
        self.downsample = block.downsample

    @staticmethod
    def fits(block: BasicBlock | Bottleneck) -> bool:
        """Whether all of its convolutions are packed, and its norms folded."""
        parts = {name: part for name, part in block.named_children() if name != "downsample"}
        convolutions = [part for name, part in parts.items() if name.startswith("conv")]
        norms = [part for name, part in parts.items() if name.startswith("bn")]
        return (
            all(isinstance(conv, PackedConv2d) and conv.act == _NONE for conv in convolutions)
            and all(isinstance(norm, nn.Identity) for norm in norms)
            and type(block.relu) is nn.ReLU
            and type(block) in (BasicBlock, Bottleneck)
        )

    def forward(self, x: Tensor) -> Tensor:
        other = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.last.plus(self.first(x), other)
        return out
