"""Feature pyramid network (Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.necks.base import Neck


class FPN(Neck):
    """C2..C5, or C3..C5, to a pyramid of equal width: a 1×1 lateral, nearest upsampling from above, a 3×3 on each sum.

    What lies above the backbone's coarsest map depends on who reads it: `coarser`.

    Attributes:
        channels: {"P2": channels, ..., "P6": channels}, or {"P3": channels, ..., "P7": channels}.
    """

    def __init__(
        self,
        in_channels: dict[str, int],
        channels: int = 256,
        coarser: Literal["subsample", "from_p", "from_c"] = "subsample",
        norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        """Torchvision's pyramids.

        Args:
            in_channels: of the backbone's maps by level ("C2".."C5"), finest first.
            channels: of every output map.
            coarser: "subsample": one more level, every second cell of the coarsest (Lin et al. 2017, for an RPN).
                "from_p", "from_c": two more by 3×3 convolutions of stride 2 with a ReLU between them, from the
                pyramid's coarsest map (FCOS, and RetinaNet since Detectron), or from the backbone's (RetinaNet, 2017).
            norm: makes a layer of so many channels after each lateral and each 3×3, which then have no bias; None
                has neither layer (torchvision's Faster R-CNN v2 has batch norm).
        """
        super().__init__()
        self.inputs = list(in_channels)
        self.coarser = coarser
        bias = norm is None
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1, bias=bias) for c in in_channels.values())
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=bias) for _ in in_channels)
        layer = norm or nn.Identity
        self.lateral_norm = nn.ModuleList(layer(channels) for _ in in_channels)
        self.output_norm = nn.ModuleList(layer(channels) for _ in in_channels)
        widths = {"subsample": (), "from_p": (channels, channels), "from_c": (in_channels[self.inputs[-1]], channels)}
        self.above = nn.ModuleList(nn.Conv2d(c, channels, 3, stride=2, padding=1) for c in widths[coarser])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        top = int(self.inputs[-1][1])
        names = [level.replace("C", "P") for level in self.inputs]
        names += [f"P{top + 1 + i}" for i in range(len(self.above) or 1)]
        self.channels = dict.fromkeys(names, channels)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"C3": (B, c, h, w), ...} -> {"P3": (B, channels, h, w), ..., the coarser levels}."""
        maps: list[Tensor] = []  # finest first
        merged: Tensor | None = None
        for i in reversed(range(len(self.inputs))):
            lateral = self.lateral_norm[i](self.lateral[i](features[self.inputs[i]]))
            if merged is not None:
                lateral = lateral + F.interpolate(merged, size=lateral.shape[-2:], mode="nearest")
            merged = lateral
            maps.insert(0, self.output_norm[i](self.output[i](merged)))
        if self.coarser == "subsample":
            maps.append(maps[-1][..., ::2, ::2])
        else:
            top = maps[-1] if self.coarser == "from_p" else features[self.inputs[-1]]
            for i, convolution in enumerate(self.above):
                top = convolution(F.relu(top) if i else top)
                maps.append(top)
        return dict(zip(self.channels, maps, strict=True))
