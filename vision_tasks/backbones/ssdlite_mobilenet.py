"""MobileNetV3-Large as SSDLite reads it (Howard et al. 2019, section 6.3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.models import mobilenet_v3_large

from vision_tasks.backbones.base import Backbone
from vision_tasks.necks.ssd import NormLayer

_ENDS = (2, 4, 7, 13)
"""Each of C1..C4 ends before this block; C4 has the expansion of that block 13 besides."""


class SSDLiteMobileNetV3(Backbone):
    """torchvision's `mobilenet_v3_large` without its classifier.

    C4 (672 channels) is the expansion inside block 13, the first at stride 32, before its stride is taken; C5 is the
    last 1×1 convolution's output. Parameter names are torchvision's, so its ImageNet files fit where the tail is not
    reduced.

    Args:
        layer: normalisation of so many channels.
        reduced_tail: half as many channels after C4 (the paper's table 6), 480 rather than 960 in C5.
    """

    def __init__(self, layer: NormLayer, reduced_tail: bool = True) -> None:
        super().__init__({"C4": 672, "C5": 480 if reduced_tail else 960})
        self.features: nn.Sequential = mobilenet_v3_large(
            weights=None, norm_layer=layer, reduced_tail=reduced_tail
        ).features

    def stages(self) -> Sequence[tuple[str, Sequence[nn.Module]]]:
        starts = (0, *_ENDS)
        first = [
            (f"C{i}", [self.features[j] for j in range(start, end)])
            for i, (start, end) in enumerate(zip(starts, _ENDS, strict=False), start=1)
        ]
        expansion, *rest = self.features[13].block
        first[3][1].append(expansion)
        return [*first, ("C5", [*rest, *self.features[14:]])]
