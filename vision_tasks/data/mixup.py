"""Mixup: two images that shine through each other (Zhang et al. 2017), as Ge et al., "YOLOX" (2021), make it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import torch
from numpy.random import Generator

from vision_tasks.data.canvas import joined, laid_over
from vision_tasks.data.dataset import DetectionDataset, Sample


@dataclass(frozen=True)
class MixUp:
    """Half the sample, half another image, with the objects of both.

    The other image is brought to the sample's size as a letterbox would, scaled once more, mirrored half the time, and
    laid at a random place, cut where it is larger and on grey where it is smaller. It is drawn from those with
    annotations, of the same data set. What `Mosaic` says of small and cut objects and of 16 bits holds for the other
    image's, too.

    Args:
        probability: of mixing; else the sample stays as it is. scale: smallest and largest factor.
    """

    probability: float
    scale: tuple[float, float] = (0.5, 1.5)

    def __call__(self, sample: Sample, random: Generator, dataset: DetectionDataset) -> Sample:
        """The mixture, which keeps the size, the image id and the request of `sample`."""
        if random.random() >= self.probability or sample.image is None:
            return sample
        over = laid_over(sample, random, dataset, self.scale)
        return replace(
            sample,
            image=cv2.addWeighted(over.image, 0.5, over.layer, 0.5, 0).reshape(over.image.shape),
            target=joined([sample.target, over.target], _semantic_on_top_of_each_other),
            unreadable=[*sample.unreadable, *over.unreadable],
        )


def _semantic_on_top_of_each_other(maps: list[torch.Tensor]) -> torch.Tensor:
    """Where two categories shine through each other there is no one answer; of several labels both hold."""
    lower, upper = maps
    if lower.ndim == 3:
        return torch.maximum(lower, upper)
    return torch.where((lower == upper) | (upper == -1), lower, torch.where(lower == -1, upper, -1))
