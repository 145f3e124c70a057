"""MobileNetV2 (Sandler et al. 2018) with torchvision's layers and parameter names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn
from torchvision.models import mobilenet_v2 as build_body

from vision_tasks.backbones.base import LEVELS, NORMS, Backbone

# Each level ends with the last block before the next halving.
_ENDS = (2, 4, 7, 14, 19)
_WIDTHS = (16, 24, 32, 96, 1280)


class MobileNetV2(Backbone):
    """torchvision's `mobilenet_v2` without its classifier. C5 is the last 1×1 convolution's output."""

    def __init__(self, norm: str, levels: Sequence[str], norm_eps: float = 1e-5) -> None:
        super().__init__({level: width for level, width in zip(LEVELS, _WIDTHS, strict=True) if level in levels})
        body = build_body(weights=None, norm_layer=partial(NORMS[norm], eps=norm_eps))
        self.features: nn.Sequential = body.features

    def stages(self) -> Sequence[tuple[str, Sequence[nn.Module]]]:
        starts = (0, *_ENDS)
        return [
            (level, [self.features[i] for i in range(start, end)])
            for level, start, end in zip(LEVELS, starts, _ENDS, strict=False)
        ]
