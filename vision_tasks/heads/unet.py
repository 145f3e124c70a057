"""The expanding half of a U-Net (Ronneberger et al. 2015), for the original and for any backbone's pyramid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.heads.fcn import Norm
from vision_tasks.heads.semantic import Decoder, first_scores
from vision_tasks.ops.double_conv import double_conv

Upsampling = Literal["nearest", "transposed"]


class UpBlock(nn.Module):
    """Twice as large, beside the backbone's map of that size if there is one, then two 3×3 convolutions."""

    def __init__(
        self, in_channels: int, skip_channels: int, out_channels: int, norm: Norm | None, upsampling: Upsampling
    ) -> None:
        """
        Args:
            skip_channels: of the backbone's map; 0 if there is none.
            upsampling: every cell four times, or a 2×2 transposed convolution to `out_channels`.
        """
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2) if upsampling == "transposed" else None
        self.convs = double_conv((out_channels if self.up else in_channels) + skip_channels, out_channels, norm)

    def forward(self, x: Tensor, skip: Tensor | None, size: tuple[int, int]) -> Tensor:
        """(B, in_channels, h, w), (B, skip_channels, *size) or None -> (B, out_channels, *size).

        A map that is a cell too large after doubling, because sides were rounded up on the way down, is cut; one that
        is too small has its last cells repeated.
        """
        x = F.interpolate(x, size=size, mode="nearest") if self.up is None else _fitted(self.up(x), size)
        out: Tensor = self.convs(x if skip is None else torch.cat([x, skip], dim=1))
        return out


class UNetDecoder(Decoder):
    """From the coarsest map up to full size, joined on the way with every finer map there is; logits at full size."""

    def __init__(
        self,
        channels: Mapping[str, int],
        outputs: int,
        widths: Sequence[int],
        norm: Norm | None = nn.BatchNorm2d,
        upsampling: Upsampling = "nearest",
        kernel: int = 3,
        dropout: float = 0.0,
    ) -> None:
        """
        Args:
            channels: of the maps it reads, by level, finest first, the last of them not dilated.
            widths: channels after each doubling, coarsest first: as many as the coarsest level's number.
            norm: None: no normalisation. kernel: side of the last convolution, odd.
            dropout: share of the coarsest map's values left out in training.

        Raises:
            ValueError: not as many widths as doublings.
        """
        super().__init__()
        self.levels = tuple(channels)
        coarsest = int(self.levels[-1][1])
        if len(widths) != coarsest:
            raise ValueError(
                f"widths has {len(widths)} values, but {coarsest} doublings lead from {self.levels[-1]} to full size"
            )
        self._skips = [f"C{level}" for level in reversed(range(coarsest))]
        before = (channels[self.levels[-1]], *widths[:-1])
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            UpBlock(inside, channels.get(level, 0), width, norm, upsampling)
            for level, inside, width in zip(self._skips, before, widths, strict=True)
        )
        self.classifier = first_scores(nn.Conv2d(widths[-1], outputs, kernel, padding=kernel // 2))

    def forward(self, features: dict[str, Tensor], canvas: tuple[int, int]) -> Tensor:
        """(B, outputs, *canvas)."""
        x = self.dropout(features[self.levels[-1]])
        for level, block in zip(self._skips, self.blocks, strict=True):
            skip = features[level] if level in self.levels else None
            if level == "C0":
                size = canvas
            else:
                size = (2 * x.shape[-2], 2 * x.shape[-1]) if skip is None else (skip.shape[-2], skip.shape[-1])
            x = block(x, skip, size)
        logits: Tensor = self.classifier(x)
        return logits

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        return {"classifier.weight": (1, 1), "classifier.bias": (1, 1)}


def _fitted(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut, or its last row and column repeated, to this size."""
    x = x[..., : size[0], : size[1]]
    lacking = (size[0] - x.shape[-2], size[1] - x.shape[-1])
    return F.pad(x, (0, lacking[1], 0, lacking[0]), mode="replicate") if any(lacking) else x
