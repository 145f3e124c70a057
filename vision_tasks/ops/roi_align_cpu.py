"""RoIAlign on a CPU as sums of whole rows of a channels-last map, forward and backward.

RoIAlign (Mask R-CNN, section 3) is linear in the map: a bin is a weighted sum of a few pixels, all channels with the
same weights. Written as `embedding_bag` over the pixels as rows, channels lie side by side and all cores work. The
gradient is the transposed sum: the same (bin, pixel, weight) triples, sorted by pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Boxes worked on at once have at most this many (bin, pixel) pairs: index, weight and order take 16 bytes a pair.
PAIRS_AT_ONCE = 1 << 20


class Sampling(NamedTuple):
    """How boxes are sampled: S bins per axis, n points per bin and axis, half a pixel's shift or not."""

    strides: tuple[int, ...]
    output_size: int
    sampling_ratio: int
    aligned: bool


class RoIAlignCPU(torch.autograd.Function):
    """(R, C, S, S) from R boxes on levels (B, C, h, w). No gradient for the boxes, and no second derivative."""

    @staticmethod
    def forward(
        ctx: Any, sampling: Sampling, boxes: Tensor, levels: Tensor, image_index: Tensor, *maps: Tensor
    ) -> Tensor:
        """boxes: (R, 4) in pixels, in the dtype to compute coordinates in. levels, image_index: (R,) int64."""
        ctx.sampling = sampling
        ctx.save_for_backward(boxes, levels, image_index)
        ctx.maps = [(m.shape, m.stride()) for m in maps]
        channels, size = maps[0].shape[1], sampling.output_size
        pooled = maps[0].new_empty((len(boxes), channels, size * size))
        sizes = [tuple(m.shape[-2:]) for m in maps]
        for image, members in _by_image(image_index):
            table = torch.cat([m[image].flatten(1).t() for m in maps])
            for rows in _chunks(members, sampling):
                pixels, weights = _pairs(sampling, sizes, boxes[rows], levels[rows])
                bins = F.embedding_bag(
                    pixels.flatten(0, 1),
                    table,
                    mode="sum",
                    per_sample_weights=weights.flatten(0, 1).to(table.dtype),
                )
                pooled[rows] = bins.view(len(rows), -1, channels).transpose(1, 2)
        return pooled.view(len(boxes), channels, size, size)

    @staticmethod
    @once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        sampling: Sampling = ctx.sampling
        boxes, levels, image_index = ctx.saved_tensors
        sizes = [tuple(shape[-2:]) for shape, _ in ctx.maps]
        areas = [h * w for h, w in sizes]
        channels = gradient.shape[1]
        grads = [gradient.new_empty_strided(shape, stride).zero_() for shape, stride in ctx.maps]
        for image, members in _by_image(image_index):
            total = None
            for rows in _chunks(members, sampling):
                pixels, weights = _pairs(sampling, sizes, boxes[rows], levels[rows])
                bins = gradient[rows].flatten(2).transpose(1, 2).reshape(-1, channels)
                part = _transposed_sum(pixels, weights.to(bins.dtype), bins, sum(areas))
                total = part if total is None else total.add_(part)
            assert total is not None
            for grad, rows_of_level in zip(grads, total.split(areas), strict=True):
                grad[image].flatten(1).copy_(rows_of_level.t())
        return (None, None, None, None, *grads)


def _by_image(image_index: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each image that has boxes, and which these are. One image's map stays in the cache, and bounds the memory."""
    order = image_index.argsort(stable=True)
    for image, count in enumerate(image_index.bincount().tolist()):
        if count:
            yield image, order[:count]
            order = order[count:]


def _chunks(rows: Tensor, sampling: Sampling) -> tuple[Tensor, ...]:
    return rows.split(max(1, PAIRS_AT_ONCE // (2 * sampling.output_size * sampling.sampling_ratio) ** 2))


def _transposed_sum(pixels: Tensor, weights: Tensor, bins: Tensor, n_pixels: int) -> Tensor:
    """(n_pixels, C): at each pixel the sum of weight × bin over the pairs that name it.

    pixels, weights: (R, S², t). bins: (R * S², C).
    """
    taps = pixels.shape[-1]
    pixel, order = pixels.flatten().sort()
    starts = torch.searchsorted(pixel, torch.arange(n_pixels, dtype=pixel.dtype), out_int32=True)
    return F.embedding_bag(
        (order // taps).int(), bins, starts, mode="sum", per_sample_weights=weights.flatten()[order]
    )


def _pairs(
    sampling: Sampling, sizes: Sequence[tuple[int, int]], boxes: Tensor, levels: Tensor
) -> tuple[Tensor, Tensor]:
    """Pixels (R, S², t) int32, counted through all levels of an image, that make up each bin, and their weights."""
    hw = torch.tensor(sizes, dtype=boxes.dtype)
    first = F.pad(torch.tensor([h * w for h, w in sizes]).cumsum(0), (1, 0))[levels].int()
    scale = 1 / torch.tensor(sampling.strides, dtype=boxes.dtype)[levels]
    height, width = hw[levels].unbind(1)
    corners = boxes * scale[:, None] - 0.5 * sampling.aligned
    y, wy = _axis(corners[:, 1], corners[:, 3], height, sampling)
    x, wx = _axis(corners[:, 0], corners[:, 2], width, sampling)
    y = first[:, None, None] + y * width.int()[:, None, None]
    pixels = y[:, :, None, :, None] + x[:, None, :, None, :]
    weights = wy[:, :, None, :, None] * wx[:, None, :, None, :]
    return pixels.flatten(3).flatten(1, 2), weights.flatten(3).flatten(1, 2)


def _axis(start: Tensor, end: Tensor, length: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Cells of one axis (R, S, 2n) int32 that the samples of each bin touch, and their weights (they sum to 1).

    A sample more than one cell outside of the map counts as zero; one less far outside reads the border (as in
    torchvision and Detectron2). The order of operations is torchvision's, so that rounding is the same.
    """
    size, n = sampling.output_size, sampling.sampling_ratio
    extent = end - start if sampling.aligned else (end - start).clamp(min=1)
    step = (extent / size)[:, None, None]
    bins = torch.arange(size, dtype=start.dtype)[:, None]
    samples = torch.arange(n, dtype=start.dtype) + 0.5
    position = start[:, None, None] + bins * step + samples * step / n
    length = length[:, None, None]
    inside = (position >= -1) & (position <= length)
    position = torch.minimum(position.clamp(min=0), length - 1)
    low = torch.minimum(position.floor(), (length - 2).clamp(min=0))
    high = torch.minimum(low + 1, length - 1)
    part = position - low
    cells = torch.cat((low, high), dim=2).int()
    return cells, torch.cat((1 - part, part), dim=2) * (inside / n).repeat(1, 1, 2)
