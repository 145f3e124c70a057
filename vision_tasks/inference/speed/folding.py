"""Batch norm folded into the convolution before it: the same function, one pass over the map less."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops.misc import FrozenBatchNorm2d

from vision_tasks.inference.speed.trace import probe, trace
from vision_tasks.models.vision_model import VisionModel

log = logging.getLogger("vision_tasks")

_CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.ConvTranspose2d)
_CLOSE = 1e-3  # of the largest value of a map; rounding is a hundredth of it


@torch.no_grad()
def fold(model: VisionModel) -> int:
    """Fold every batch norm that alone reads a convolution, in place; how many that were.

    A norm stays as it is where the convolution's output has other readers, or the norm other inputs. Should the
    features differ afterwards, all is undone, with a warning: speed must not change what a model says.

    Args:
        model: in evaluation mode, float32, and the caller's to change.
    """
    seen = trace(model, [*_CONVOLUTIONS, *_norm_kinds(model)])
    names = {module: name for name, module in model.named_modules()}
    pairs = [
        (conv, norm)
        for conv, norm in seen.only_reader.items()
        if type(conv) in _CONVOLUTIONS and is_batch_norm(norm) and _fits(conv)
    ]
    if not pairs:
        return 0
    before = _outputs(model)
    kept = [(conv, conv.weight, conv.bias) for conv, _ in pairs]
    for conv, norm in pairs:
        _absorb(conv, norm)
        model.set_submodule(names[norm], _rest(norm))
    if _equal(before, _outputs(model)):
        return len(pairs)
    for (conv, weight, bias), (_, norm) in zip(kept, pairs, strict=True):
        conv.weight, conv.bias = weight, bias
        model.set_submodule(names[norm], norm)
    log.warning("Batch norm was not folded: this network's maps would change. It runs, only less fast.")
    return 0


def is_batch_norm(module: nn.Module) -> bool:
    """Whether it scales and shifts each channel by constants, in evaluation: batch norm, frozen, timm's with an act."""
    named = isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)) or type(module).__name__.startswith(
        "FrozenBatchNorm"
    )
    statistics = all(isinstance(getattr(module, name, None), Tensor) for name in ("running_mean", "running_var"))
    return statistics and (named or isinstance(module, FrozenBatchNorm2d))


def _norm_kinds(model: nn.Module) -> set[type[nn.Module]]:
    return {type(module) for module in model.modules() if is_batch_norm(module)}


def _fits(conv: nn.Module) -> bool:
    return isinstance(conv, nn.Conv2d) or (isinstance(conv, nn.ConvTranspose2d) and conv.groups == 1)


def _absorb(conv: Any, norm: Any) -> None:
    """Give the convolution the norm's factors, worked out in float64."""

    def precise(value: Tensor | None) -> Any:
        return None if value is None else value.detach().double()

    weight, bias = fuse_conv_bn_weights(
        precise(conv.weight), precise(conv.bias), precise(norm.running_mean), precise(norm.running_var), norm.eps,
        precise(norm.weight), precise(norm.bias), transpose=isinstance(conv, nn.ConvTranspose2d),
    )  # fmt: skip
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def _rest(norm: nn.Module) -> nn.Module:
    """What a norm does beside normalising: timm's hold an activation."""
    parts = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if isinstance(part, nn.Module)]
    parts = [part for part in parts if not isinstance(part, nn.Identity)]
    return nn.Identity() if not parts else parts[0] if len(parts) == 1 else nn.Sequential(*parts)


def _outputs(model: VisionModel) -> list[Tensor]:
    """All maps for noise."""
    images, _ = probe(model.preprocess)
    return list(model.features(images.to(model.device)).values())


def _equal(before: list[Tensor], after: list[Tensor]) -> bool:
    return all(
        bool((a - b).abs().max() <= _CLOSE * b.abs().max().clamp(min=1e-6)) for a, b in zip(after, before, strict=True)
    )
