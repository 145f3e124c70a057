"""What objects look like, in the detector's own features: unit vectors that trackers compare."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vision_tasks.ops.roi_align import multilevel_roi_align
from vision_tasks.structures import Size

_STRIDES = (8, 16)
"""Maps that are looked at: finer ones know edges, coarser ones know kinds of things but not one from another."""
_BINS = 4


def embed(features: dict[str, Tensor], canvas: Size, boxes: Tensor, image_index: Tensor) -> Tensor:
    """A vector for each box: the mean of the backbone's maps inside it, against what is usual in the picture.

    Every channel is first measured in standard deviations from its mean over the picture. Without that all vectors
    point into nearly the same direction: with YOLOX-nano, MOT17's pedestrians are alike by 0.88 between two people and
    by 0.99 within one (cosine of raw means); measured so, by 0.49 and 0.94. Which maps is measured, too: those of the
    backbone at strides 8 and 16 tell people apart better than those of the neck (docs/tracking.md).

    Args:
        features: maps (B, C, h, w) by level name, as `VisionModel.features` gives them; any dtype.
        canvas: (height, width) of the network's input. boxes: (R, 4) corners in its pixels.
        image_index: (R,) int64, which image of the batch each box belongs to.

    Returns:
        (R, D) float32 of length 1; a box that is not finite gives zeros.
    """
    maps = _chosen(features, canvas)
    parts = []
    for stride, values in maps:
        pooled = multilevel_roi_align([values], [stride], boxes, image_index, _BINS).float().mean(dim=(2, 3))
        mean, deviation = _usual(values)
        parts.append(normalize((pooled - mean[image_index]) / deviation[image_index], dim=1))
    sound = boxes.isfinite().all(dim=1, keepdim=True)
    return torch.where(sound, torch.cat(parts, dim=1) / math.sqrt(len(parts)), 0)


def _usual(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, C) of each channel over the picture."""
    deviation, mean = torch.std_mean(values.float(), dim=(2, 3), correction=0)
    return mean, deviation + 1e-6


def _chosen(features: dict[str, Tensor], canvas: Size) -> list[tuple[int, Tensor]]:
    """The maps to look at with their strides: of the backbone before those of the neck, else the finest there is."""
    strides = {name: 2 ** round(math.log2(canvas[1] / values.shape[-1])) for name, values in features.items()}
    backbone_first = sorted(features, key=lambda name: (not name.startswith("C"), strides[name]))
    chosen = {strides[name]: name for name in reversed(backbone_first) if strides[name] in _STRIDES}
    names = [chosen[stride] for stride in sorted(chosen)] or [min(features, key=lambda name: strides[name])]
    return [(strides[name], features[name]) for name in names]
