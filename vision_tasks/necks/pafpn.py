"""Path aggregation pyramid (Liu et al. 2018) in YOLOX's form: concatenation and CSP layers instead of sums."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.necks.base import Neck
from vision_tasks.ops.csp import ConvBlock, CSPLayer, spatial_block


class PAFPN(Neck):
    """C3..C5 -> P3..P5: information goes from coarse to fine, then back from fine to coarse.

    Attributes:
        channels: {"P3": ..., "P4": ..., "P5": ...}.
    """

    def __init__(
        self, in_channels: Mapping[str, int], widths: tuple[int, ...], depth: int, depthwise: bool = False
    ) -> None:
        """
        Args:
            in_channels: of the backbone's maps by level ("C3".."C5"), finest first; any two or more levels.
            widths: channels of the output maps, finest first, one per level; YOLOX takes its backbone's own.
            depth: bottlenecks of each CSP layer. depthwise: whether 3×3 convolutions are depthwise.
        """
        super().__init__()
        if len(widths) != len(in_channels) or len(widths) < 2:
            raise ValueError(f"one width per level, of at least two: levels {list(in_channels)}, widths {widths}")
        self.inputs = list(in_channels)
        self.channels = {level.replace("C", "P"): w for level, w in zip(self.inputs, widths, strict=True)}
        given = list(in_channels.values())
        # Lists are finest first; entry i lies between level i and the next coarser one.
        self.reduce, self.merge_down, self.shrink, self.merge_up = (nn.ModuleList() for _ in range(4))
        for i, (fine, coarse) in enumerate(itertools.pairwise(widths)):
            above = given[-1] if i == len(widths) - 2 else coarse
            self.reduce.append(ConvBlock(above, fine, 1))
            self.merge_down.append(CSPLayer(fine + given[i], fine, depth, shortcut=False, depthwise=depthwise))
            self.shrink.append(spatial_block(fine, fine, 3, stride=2, depthwise=depthwise))
            self.merge_up.append(CSPLayer(2 * fine, coarse, depth, shortcut=False, depthwise=depthwise))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"C3": (B, c, h, w), ...} -> {"P3": (B, width, h, w), ...}, the same sizes."""
        maps = [features[level] for level in self.inputs]
        steps = range(len(maps) - 1)
        merged, reduced = maps[-1], {}
        for i in reversed(steps):
            reduced[i] = self.reduce[i](merged)
            enlarged = F.interpolate(reduced[i], size=maps[i].shape[-2:], mode="nearest")
            merged = self.merge_down[i](torch.cat((enlarged, maps[i]), dim=1))
        pyramid = [merged]
        for i in steps:
            merged = self.merge_up[i](torch.cat((self.shrink[i](merged), reduced[i]), dim=1))
            pyramid.append(merged)
        return dict(zip(self.channels, pyramid, strict=True))
