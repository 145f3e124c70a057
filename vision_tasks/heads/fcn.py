"""FCN (Long et al. 2015) as it is built today: one 3×3 convolution on a dilated backbone, torchvision's `FCNHead`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from vision_tasks.heads.semantic import Decoder

Norm = Callable[[int], nn.Module]
"""Makes the normalisation of so many channels."""


def conv_norm_relu(
    in_channels: int,
    out_channels: int,
    norm: Norm,
    kernel: int = 3,
    dilation: int = 1,
    separable: bool = False,
) -> nn.Sequential:
    """A convolution that keeps the map's size, normalisation, ReLU.

    Args:
        kernel: side, odd. dilation: cells from one of its taps to the next.
        separable: each channel is filtered by itself, and a 1×1 convolution mixes them (Chen et al. 2018, section 3.1).
    """
    convolution = partial(nn.Conv2d, kernel_size=kernel, padding=kernel // 2 * dilation, dilation=dilation, bias=False)
    if separable:
        convolutions = [
            convolution(in_channels, in_channels, groups=in_channels),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
        ]
    else:
        convolutions = [convolution(in_channels, out_channels)]
    return nn.Sequential(*convolutions, norm(out_channels), nn.ReLU(inplace=True))


class FCNDecoder(Decoder):
    """3×3 convolution to a quarter of the channels, dropout, 1×1 convolution to the outputs; at the map's stride."""

    def __init__(
        self, level: str, channels: int, outputs: int, norm: Norm = nn.BatchNorm2d, dropout: float = 0.1
    ) -> None:
        """
        Args:
            level: the map it reads. channels: of that map.
            dropout: share of its channels' values that are left out in training.
        """
        super().__init__()
        self.levels = (level,)
        width = max(channels // 4, 1)
        self.layers = conv_norm_relu(channels, width, norm)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(width, outputs, 1)

    def forward(self, features: dict[str, Tensor], canvas: tuple[int, int]) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(self.layers(features[self.levels[0]])))
        return logits

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        return {"classifier.weight": (1, 1), "classifier.bias": (1, 1)}
