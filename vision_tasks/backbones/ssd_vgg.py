"""VGG-16 (Simonyan and Zisserman 2014) as SSD reads it: up to conv5_3, its third pooling rounding up."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.models import vgg16

from vision_tasks.backbones.base import Backbone

# Each stage begins with the pooling that halves its map; the first ends before the first pooling.
_ENDS = (4, 9, 16, 23, 30)


class SSDVGG16(Backbone):
    """torchvision's `vgg16` without classifier and last pooling: C3 is conv4_3, C4 conv5_3, 512 channels each.

    Parameter names are torchvision's, so its ImageNet files fit. An odd map is halved upwards by the third pooling (75
    to 38 at 300 pixels), as the paper's network does.
    """

    def __init__(self) -> None:
        super().__init__({"C3": 512, "C4": 512})
        layers = list(vgg16(weights=None).features)[: _ENDS[-1]]
        third_pooling = layers[_ENDS[2]]
        assert isinstance(third_pooling, nn.MaxPool2d)
        third_pooling.ceil_mode = True
        self.features = nn.Sequential(*layers)

    def stages(self) -> Sequence[tuple[str, Sequence[nn.Module]]]:
        starts = (0, *_ENDS)
        return [
            (f"C{i}", [self.features[j] for j in range(start, end)])
            for i, (start, end) in enumerate(zip(starts, _ENDS, strict=False))
        ]
