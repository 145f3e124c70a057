"""A published classification network as a backbone: its layers in a row, cut after the last level asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from vision_tasks.backbones.base import LEVELS, NORMS, Backbone, check_levels
from vision_tasks.backbones.dilation import dilated, is_strided


class Chain(Backbone):
    """Layers applied one after another, each under the name it has in the published network.

    Layers after the last level asked for are dropped, so that no parameter goes without a gradient.
    """

    def __init__(
        self,
        name: str,
        body: nn.Module,
        layers: Iterable[tuple[str, nn.Module]],
        ends: Mapping[str, str],
        levels: Sequence[str] | None,
        widths: Mapping[str, int] | None = None,
        dilate_strided: bool = False,
    ) -> None:
        """
        Args:
            name: of the backbone, for messages.
            body: the whole published network, to know which of its weights are left out.
            layers: (dotted name in body's state dict, layer), in the order of their application.
            ends: name of the last layer of each level, finest first.
            levels: those wanted; None: all there are.
            widths: channels of a level's map, where it is not the width of the last convolution before it.
            dilate_strided: `dilate` also dilates the layer whose stride it takes out, by the dilation that follows.

        Raises:
            VisionTasksError: the network has no such level.
        """
        levels = levels or [level for level in ends if len(level) == 2]
        check_levels(name, levels, ends)
        # Of levels that come in two parts, only the parts asked for are told apart.
        ends = {level: end for level, end in ends.items() if level in levels or level in LEVELS}
        rest = iter(layers)
        parts: list[tuple[str, list[tuple[str, nn.Module]]]] = []
        channels: dict[str, int] = {}
        width = 0
        for level in list(ends)[: 1 + max(list(ends).index(level) for level in levels)]:
            parts.append((level, []))
            for layer_name, layer in rest:
                parts[-1][1].append((layer_name, layer))
                width = ([m.out_channels for m in layer.modules() if isinstance(m, nn.Conv2d)] or [width])[-1]
                if layer_name == ends[level]:
                    break
            if level in levels:
                channels[level] = (widths or {}).get(level, width)
        super().__init__(channels)
        for layer_name, layer in (pair for _, pairs in parts for pair in pairs):
            _place(self, layer_name, layer)
        self._dilate_strided = dilate_strided
        self._parts = [(level, [layer_name for layer_name, _ in pairs]) for level, pairs in parts]
        own = self.state_dict().keys()
        self.left_out = tuple(weight for weight in body.state_dict() if weight not in own)

    def stages(self) -> Sequence[tuple[str, Sequence[nn.Module]]]:
        return [(level, [self.get_submodule(name) for name in names]) for level, names in self._parts]

    def dilate(self, output_stride: int) -> None:
        dilation = 1
        for level, names in self._parts:
            before, keeps_stride = dilation, 2 ** int(level[1]) <= output_stride
            for name in () if keeps_stride else names:
                for inner, layer in list(self.get_submodule(name).named_modules(prefix=name)):
                    strided = is_strided(layer)
                    dilation = 2 * before if strided else dilation
                    self.set_submodule(
                        inner, dilated(layer, before if strided and not self._dilate_strided else dilation)
                    )


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
