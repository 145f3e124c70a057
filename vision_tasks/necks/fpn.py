"""Feature pyramid network (Lin et al. 2017)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.necks.base import Neck


class FPN(Neck):
    """C2..C5 -> P2..P6 of equal width: a 1×1 lateral, nearest upsampling from above, a 3×3 on each sum.

    P6, which only the RPN reads, is every second cell of P5, as in the paper and in torchvision.

    Attributes:
        channels: {"P2": channels, ..., "P6": channels}.
    """

    def __init__(self, in_channels: dict[str, int], channels: int = 256) -> None:
        """in_channels: of the backbone's maps by level ("C2".."C5"), finest first. channels: of every output map."""
        super().__init__()
        self.inputs = list(in_channels)
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels.values())
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        top = int(self.inputs[-1][1]) + 1
        self.channels = {level.replace("C", "P"): channels for level in self.inputs} | {f"P{top}": channels}

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"C2": (B, c, h, w), ...} -> {"P2": (B, channels, h, w), ..., one coarser level than came in}."""
        names = list(self.channels)
        pyramid: dict[str, Tensor] = {}
        merged: Tensor | None = None
        for i in reversed(range(len(self.inputs))):
            lateral = self.lateral[i](features[self.inputs[i]])
            if merged is not None:
                lateral = lateral + F.interpolate(merged, size=lateral.shape[-2:], mode="nearest")
            merged = lateral
            pyramid[names[i]] = self.output[i](merged)
        coarsest = pyramid[names[-2]][..., ::2, ::2]
        return {name: pyramid.get(name, coarsest) for name in names}
