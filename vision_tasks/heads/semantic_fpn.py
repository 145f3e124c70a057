"""The semantic branch of Panoptic FPN (Kirillov et al. 2019): every level of a pyramid is brought to 1/4 and summed."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.heads.semantic import Decoder

_STRIDE = 2  # as a level's number: maps are summed at 1/4 of the image


class SemanticFPNDecoder(Decoder):
    """Logits at 1/4 of the image, from any levels of a pyramid; it may be shared with other heads.

    A level of 1/8, 1/16, 1/32 takes one, two, three rounds of a 3×3 convolution, group norm, ReLU and doubling; one of
    1/4 a round without doubling. A 1×1 convolution reads the sum (section 3.1 and figure 3 of the paper). Doubling is
    bilinear between cell centres, as in the authors' Detectron2; segmentation_models_pytorch aligns the corners, and
    drops channels out before the last convolution.
    """

    def __init__(self, channels: Mapping[str, int], outputs: int, width: int = 128, groups: int = 32) -> None:
        """
        Args:
            channels: of the levels that are read, by name ("P2".."P5"), finest first.
            width: channels of each round. groups: of the group norm; they divide the width.

        Raises:
            ValueError: no level, or groups that do not divide the width.
        """
        super().__init__()
        if not channels:
            raise ValueError("a decoder on a pyramid needs at least one of its levels")
        if width % groups:
            raise ValueError(f"{groups} groups do not divide {width} channels: change groups or width")
        self.levels = tuple(channels)
        self.rounds = nn.ModuleDict(
            {
                level: nn.ModuleList(
                    nn.Sequential(
                        nn.Conv2d(width if i else in_channels, width, 3, padding=1, bias=False),
                        nn.GroupNorm(groups, width),
                        nn.ReLU(inplace=True),
                    )
                    for i in range(max(1, int(level[1]) - _STRIDE))
                )
                for level, in_channels in channels.items()
            }
        )
        self.classifier = nn.Conv2d(width, outputs, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # The sum of four maps would make a thousand classes start with logits of tens.
        nn.init.normal_(self.classifier.weight, std=0.01)
        assert self.classifier.bias is not None
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: dict[str, Tensor], canvas: tuple[int, int]) -> Tensor:
        summed: Tensor | None = None
        for level, rounds in self.rounds.items():
            x, number = features[level], int(level[1])
            assert isinstance(rounds, nn.ModuleList)
            for layers in rounds:
                number = max(_STRIDE, number - 1)
                x = _resized(layers(x), canvas, 2**number)
            summed = x if summed is None else summed + x
        logits: Tensor = self.classifier(summed)
        return logits

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        return {"classifier.weight": (1, 1), "classifier.bias": (1, 1)}


def _resized(x: Tensor, canvas: tuple[int, int], stride: int) -> Tensor:
    """At 1/stride of the canvas, sides rounded up as the backbone rounds them: twice as large, if they are even."""
    size = (-(-canvas[0] // stride), -(-canvas[1] // stride))
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
