"""A published classification network as a backbone: its layers in a row, cut after the last level asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from vision_tasks.backbones.base import LEVELS, NORMS, Backbone
from vision_tasks.errors import VisionTasksError


class Chain(Backbone):
    """Layers applied one after another, each under the name it has in the published network.

    Layers after the last level asked for are dropped, so that no parameter goes without a gradient.
    """

    def __init__(
        self,
        body: nn.Module,
        layers: Iterable[tuple[str, nn.Module]],
        ends: Mapping[str, str],
        widths: Mapping[str, int],
        levels: Sequence[str],
    ) -> None:
        """
        Args:
            body: the whole published network, to know which of its weights are left out.
            layers: (dotted name in body's state dict, layer), in the order of their application.
            ends: name of the last layer of each level, finest first. widths: channels of each level's map.
            levels: those wanted.

        Raises:
            VisionTasksError: the network has no such level.
        """
        for level in levels:
            if level not in ends:
                raise VisionTasksError(
                    f"{type(body).__name__} has no level {level}; it has {', '.join(ends)}. Ask for some of these."
                )
        ends = {level: end for level, end in ends.items() if level in levels or level in LEVELS}
        super().__init__({level: widths[level] for level in ends if level in levels})
        self._parts: list[tuple[str, list[str]]] = []
        rest = iter(layers)
        for level in list(ends)[: 1 + max(list(ends).index(level) for level in levels)]:
            names = []
            for name, layer in rest:
                _place(self, name, layer)
                names.append(name)
                if name == ends[level]:
                    break
            self._parts.append((level, names))
        own = self.state_dict().keys()
        self.left_out = tuple(name for name in body.state_dict() if name not in own)

    def stages(self) -> Sequence[tuple[str, Sequence[nn.Module]]]:
        return [(level, [self.get_submodule(name) for name in names]) for level, names in self._parts]


def set_norm(body: nn.Module, norm: str, eps: float | None) -> None:
    """Make every batch norm of a freshly built network one of `NORMS`; other normalisations are left alone.

    Args:
        norm: "batch", "frozen" or "sync". eps: added to the variance; None keeps the network's own.
    """
    for parent in list(body.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                settings = {} if norm == "frozen" else {"momentum": child.momentum}
                settings["eps"] = child.eps if eps is None else eps
                setattr(parent, name, NORMS[norm](child.num_features, **settings))


def children_of(body: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    """(dotted name, layer) of the layers in a container of the network."""
    return [(f"{name}.{child}", layer) for child, layer in body.get_submodule(name).named_children()]


def _place(root: nn.Module, name: str, layer: nn.Module) -> None:
    *path, leaf = name.split(".")
    for part in path:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(leaf, layer)
