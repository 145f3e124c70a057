"""What every neck promises: the backbone's maps in, maps named P.. out, channels known beforehand."""

from __future__ import annotations

from torch import Tensor, nn


class Neck(nn.Module):
    """Attributes: channels, of each map `forward` returns, by level name, finest first."""

    channels: dict[str, int]

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"C2": (B, c, h, w), ...} -> {"P2": (B, c, h, w), ...}."""
        raise NotImplementedError
