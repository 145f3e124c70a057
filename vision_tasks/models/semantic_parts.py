"""What the builders of semantic models share."""

from __future__ import annotations

from collections.abc import Sequence

from vision_tasks.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess


def semantic_preprocess(
    in_channels: int = 3,
    min_size: int | None = None,
    max_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    stride: int = 32,
) -> Preprocess:
    """Images as they are, padded to the stride; or with the shorter side at `min_size`.

    Args:
        in_channels: of the images. mean, std: per channel, of images scaled to 0..1. By default ImageNet's for three
            channels, their averages for any other number.
        max_size: of the longer side, if `min_size` is given; without it there is no limit.

    Raises:
        ValueError: not one mean and one deviation a channel.
    """
    if in_channels == 3:
        mean, std = mean or IMAGENET_MEAN, std or IMAGENET_STD
    else:
        mean = mean or (sum(IMAGENET_MEAN) / 3,) * in_channels
        std = std or (sum(IMAGENET_STD) / 3,) * in_channels
    if not len(mean) == len(std) == in_channels:
        raise ValueError(f"in_channels is {in_channels}, but mean has {len(mean)} values and std {len(std)}")
    if min_size is None:
        return Preprocess(resize="none", mean=tuple(mean), std=tuple(std), stride=stride)
    return Preprocess(
        min_size=min_size,
        max_size=max_size or 1_000_000,
        mean=tuple(mean),
        std=tuple(std),
        stride=stride,
        antialias=True,
    )
