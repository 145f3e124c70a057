"""The body of a Darknet network: any acyclic arrangement of its layers (Redmon and Farhadi 2018; Bochkovskiy 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.backbones.base import LEVELS, NORMS, Backbone

IMAGE = -1
"""Source that is the image itself."""

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "linear": nn.Identity,
    "leaky": nn.LeakyReLU,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "mish": nn.Mish,
    "swish": nn.SiLU,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
}
"""Darknet's names of activations."""


def activation(name: str) -> nn.Module:
    """An activation by Darknet's name; `KeyError` if there is none."""
    return nn.LeakyReLU(0.1) if name == "leaky" else ACTIVATIONS[name]()


class Convolution(nn.Module):
    """Convolution, batch norm or bias, activation."""

    def __init__(
        self, in_channels: int, channels: int, size: int, stride: int, padding: int, dilation: int, groups: int,
        norm: str | None, norm_eps: float, act: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, size, stride, padding, dilation, groups=groups, bias=norm is None)
        self.norm = nn.Identity() if norm is None else NORMS[norm](channels, eps=norm_eps)
        self.act = activation(act)
        # He et al. 2015, for the fan of a group; torch's default lets a hundred layers fade.
        nn.init.kaiming_normal_(self.conv.weight, a=0.1 if act == "leaky" else 0)

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.act(self.norm(self.conv(x)))
        return activated


class MaxPool(nn.Module):
    """Maximum over windows of a padded map: (side + padding - size) // stride + 1 of them, more padding at the end.

    The padding never wins. With Darknet's default, size - 1, stride 1 keeps the size, also for even windows.
    """

    def __init__(self, size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.size, self.stride, self.padding = size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        before = self.padding // 2
        after = self.padding - before
        if before == after and before <= self.size // 2:
            return F.max_pool2d(x, self.size, self.stride, before)
        return F.max_pool2d(F.pad(x, (before, after, before, after), value=float("-inf")), self.size, self.stride)


class Upsample(nn.Module):
    """Every pixel `factor` × `factor` times."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=float(self.factor), mode="nearest")


class Route(nn.Module):
    """Maps one after another along the channels, or of each only part `part` of `groups`."""

    def __init__(self, groups: int, part: int) -> None:
        super().__init__()
        self.groups, self.part = groups, part

    def forward(self, *maps: Tensor) -> Tensor:
        if self.groups > 1:
            maps = tuple(m.chunk(self.groups, dim=1)[self.part] for m in maps)
        return maps[0] if len(maps) == 1 else torch.cat(maps, dim=1)


class Shortcut(nn.Module):
    """Sum of maps, activated."""

    def __init__(self, act: str) -> None:
        super().__init__()
        self.act = activation(act)

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = first + other
        activated: Tensor = self.act(first)
        return activated


class Product(nn.Module):
    """Product of two maps, or of a map and one factor per channel, activated."""

    def __init__(self, act: str) -> None:
        super().__init__()
        self.act = activation(act)

    def forward(self, factor: Tensor, x: Tensor) -> Tensor:
        activated: Tensor = self.act(factor * x)
        return activated


@dataclass
class Node:
    """A layer and what it reads.

    Attributes:
        module: None for a layer of the head, which leaves its number empty.
        sources: layer numbers, or `IMAGE`. channels: of its map.
        stride: pixels of the image per step of its map; 0 after a global pooling.
    """

    module: nn.Module | None
    sources: tuple[int, ...]
    channels: int
    stride: int


class Darknet(Backbone):
    """Layers in the order and with the numbers of a `.cfg`; `layers.0` is the first after `[net]`."""

    def __init__(self, nodes: Sequence[Node], maps: dict[str, int]) -> None:
        """
        Args:
            nodes: of all layers. maps: level name -> number of the layer whose output it is.
        """
        super().__init__({level: nodes[index].channels for level, index in maps.items()})
        needed = set(maps.values())
        for i in reversed(range(len(nodes))):
            needed |= set(nodes[i].sources) if i in needed else set()
        # What no map depends on is left out: its weights would never get a gradient.
        modules = [node.module if i in needed else None for i, node in enumerate(nodes)]
        self.layers = nn.ModuleList(module or nn.Identity() for module in modules)
        self._sources = {i: node.sources for i, node in enumerate(nodes) if i in needed}
        self._maps = maps
        # A map is let go after its last reader: in prediction a deep network would keep hundreds otherwise.
        last_reader = {source: i for i, sources in self._sources.items() for source in sources}
        self._done: dict[int, list[int]] = {}
        for source, reader in last_reader.items():
            if source not in maps.values():
                self._done.setdefault(reader, []).append(source)
        self._stages: list[tuple[str, list[nn.Module]]] = [(level, []) for level in LEVELS]
        deepest = 1
        for i in self._sources:
            deepest = max(deepest, nodes[i].stride)
            self._stages[min(max(deepest.bit_length() - 2, 0), len(LEVELS) - 1)][1].append(self.layers[i])

    def stages(self) -> Sequence[tuple[str, Sequence[nn.Module]]]:
        """Layers before the first of stride 4, those before the first of stride 8, and so on; C5 has all the rest."""
        return self._stages

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) float -> the maps the yolo layers read, by level name."""
        outputs = {IMAGE: images}
        for i, sources in self._sources.items():
            outputs[i] = self.layers[i](*(outputs[source] for source in sources))
            for source in self._done.get(i, ()):
                del outputs[source]
        return {level: outputs[index] for level, index in self._maps.items()}
