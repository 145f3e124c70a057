"""LR-ASPP (Howard et al. 2019, section 6.4), the decoder of MobileNetV3, as torchvision's `LRASPPHead`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.heads.fcn import Norm, conv_norm_relu
from vision_tasks.heads.semantic import Decoder


class LRASPPDecoder(Decoder):
    """The coarse map, its channels weighed by what the whole image shows; its scores are added to the fine map's.

    It draws at the fine map's stride.
    """

    def __init__(
        self,
        fine: str,
        coarse: str,
        channels: Mapping[str, int],
        outputs: int,
        norm: Norm = nn.BatchNorm2d,
        width: int = 128,
    ) -> None:
        """
        Args:
            fine, coarse: the maps it reads. channels: of these, by level. width: channels inside.
        """
        super().__init__()
        self.levels = (fine, coarse)
        self.layers = conv_norm_relu(channels[coarse], width, norm, kernel=1)
        self.weigh = nn.Conv2d(channels[coarse], width, 1, bias=False)
        self.fine_classifier = nn.Conv2d(channels[fine], outputs, 1)
        self.coarse_classifier = nn.Conv2d(width, outputs, 1)

    def forward(self, features: dict[str, Tensor], canvas: tuple[int, int]) -> Tensor:
        fine, coarse = (features[level] for level in self.levels)
        weighed = self.layers(coarse) * torch.sigmoid(self.weigh(coarse.mean(dim=(2, 3), keepdim=True)))
        enlarged = F.interpolate(weighed, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.fine_classifier(fine) + self.coarse_classifier(enlarged)
        return logits

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        return {f"{map_}_classifier.{part}": (1, 1) for map_ in ("fine", "coarse") for part in ("weight", "bias")}
