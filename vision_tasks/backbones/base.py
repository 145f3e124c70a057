"""What every backbone promises: images in, maps named C1..C5 out, channels known beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops.misc import FrozenBatchNorm2d

from vision_tasks.backbones.dilation import adapt_channels
from vision_tasks.errors import VisionTasksError


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that takes its running statistics where a batch has one value per channel, and so none of its own.

    The last batch of an epoch may be one image, and SSDLite's last map is one cell: torch alone would end the run.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if self.training and input.numel() == input.shape[1]:
            return _by_running_statistics(self, input)
        return super().forward(input)


class SyncBatchNorm(nn.SyncBatchNorm):
    """Batch norm over all ranks; of a single process with one value per channel, as `BatchNorm` does."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        alone = not several or torch.distributed.get_world_size() == 1
        if self.training and alone and input.numel() == input.shape[1]:
            return _by_running_statistics(self, input)
        return super().forward(input)


def _by_running_statistics(norm: nn.BatchNorm2d | nn.SyncBatchNorm, input: Tensor) -> Tensor:
    return F.batch_norm(
        input, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
    )


NORMS: dict[str, type[nn.Module]] = {
    "frozen": FrozenBatchNorm2d,
    "batch": BatchNorm,
    "sync": SyncBatchNorm,
}
"""Normalisation layers by option name. "frozen" never learns: right for small batches on pretrained weights."""

LEVELS = ("C1", "C2", "C3", "C4", "C5")


class Backbone(nn.Module):
    """A stack of stages; stage Cn's map is 2**n times smaller than the image, if it was not dilated.

    Attributes:
        channels: of each map `forward` returns, by level name, finest first.
        in_channels: of the images.
        left_out: how names start of the weights in a published file that the backbone has no use for.
    """

    channels: dict[str, int]
    left_out: tuple[str, ...] = ("fc.", "classifier.")
    in_channels: int = 3
    _input_weights: frozenset[str] = frozenset()

    def __init__(self, channels: dict[str, int]) -> None:
        super().__init__()
        self.channels = channels
        self._frozen: list[nn.Module] = []

    def stages(self) -> Sequence[tuple[str, Sequence[nn.Module]]]:
        """(level, modules applied one after another to reach it from the level before), finest first.

        C1 to the coarsest there is. A level may come in two parts: "C5_first", "C5".
        """
        raise NotImplementedError

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) float -> {"C2": (B, c, H/4, W/4), ...}; sides are rounded up."""
        features: dict[str, Tensor] = {}
        x = images
        for level, modules in self.stages():
            for module in modules:
                x = module(x)
            if level in self.channels:
                features[level] = x
        return features

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a published ImageNet file (name -> tensor) under the names they have here.

        Those of a convolution that reads RGB are made to read `in_channels` (`dilation.adapt_channels`).
        """
        renamed = {self.own_name(name): value for name, value in state.items()}
        own = {name: len(self.get_parameter(name)[0]) for name in self._input_weights & renamed.keys()}
        for name, width in own.items():
            if renamed[name].ndim == 4 and renamed[name].shape[1] * self.in_channels == width * 3:
                renamed[name] = adapt_channels(renamed[name], self.in_channels)
        return renamed

    def own_name(self, weight: str) -> str:
        """The name here of a weight of a published file."""
        return weight

    def take_channels(self, in_channels: int) -> None:
        """Let the first convolution of a network with random weights read so many channels instead of three."""
        name, first = next((name, m) for name, m in self.named_modules() if isinstance(m, nn.Conv2d))
        width = first.in_channels // 3 * in_channels
        weight = torch.empty(first.out_channels, width, *first.kernel_size, device=first.weight.device)
        first.in_channels, first.weight = width, nn.Parameter(weight)
        nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
        self.in_channels, self._input_weights = in_channels, frozenset({f"{name}.weight"})

    def dilate(self, output_stride: int) -> None:
        """Make no map coarser than 1/output_stride (16 or 8): strides are taken out, what follows is dilated.

        Raises:
            NotImplementedError: the network cannot be taken apart that far.
        """
        raise NotImplementedError

    def freeze(self, trainable_stages: int) -> None:
        """Train only the last `trainable_stages` of the five; the others keep weights and statistics for good.

        What is at full size ("C0") counts to the first.
        """
        if not 0 <= trainable_stages <= 5:
            raise ValueError(f"trainable_stages must be 0..5 (5 trains everything), not {trainable_stages}")
        for level, modules in self.stages():
            for module in modules if max(int(level[1]), 1) <= 5 - trainable_stages else ():
                module.requires_grad_(False)
                self._frozen.append(module)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """As in torch, except that frozen stages stay in evaluation mode, so that their statistics do not drift."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def check_levels(name: str, wanted: Iterable[str], there: Iterable[str]) -> None:
    """Raise `VisionTasksError` if the backbone `name` lacks a level that is wanted."""
    there = list(there)
    lacking = [level for level in wanted if level not in there]
    if lacking:
        has = f"its levels are {', '.join(there)}" if there else "it has no level of a pyramid"
        raise VisionTasksError(
            f"The backbone {name} has no {', '.join(lacking)}; {has} (Cn is 1/2**n of the image's size). "
            "Choose another backbone, or a model that reads other levels."
        )
