"""RoIAlign on a CPU as sums of whole rows of a channels-last map, forward and backward.

RoIAlign (Mask R-CNN, section 3) is linear in the map: a bin is a weighted sum of a few pixels, all channels with the
same weights. Written as `embedding_bag` over the pixels as rows, channels lie side by side and all cores work. The
gradient is the transposed sum: the same (bin, pixel, weight) triples, sorted by pixel.

Images are worked on one after the other: the map of one stays in the cache, and extra memory is that of one map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Triples worked on at once. Forward, few: with 256 channels the bins of a portion take 30 MB. Backward, many, at some
# 40 bytes each: every portion costs a pass over the whole map.
FORWARD_PORTION, BACKWARD_PORTION = 1 << 18, 1 << 20


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
        ctx.maps = [(m.shape, _memory_format(m)) for m in maps]
        ctx.save_for_backward(boxes, levels, image_index)
        size = sampling.output_size
        rows = pool_rows(sampling, boxes, levels, image_index, maps)
        return rows.transpose(1, 2).contiguous().view(len(boxes), maps[0].shape[1], size, size)

    @staticmethod
    @once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        boxes, levels, image_index = ctx.saved_tensors
        sizes = [(shape[2], shape[3]) for shape, _ in ctx.maps]
        areas = [h * w for h, w in sizes]
        channels = gradient.shape[1]
        grads = [torch.empty(shape, dtype=gradient.dtype, memory_format=layout) for shape, layout in ctx.maps]
        for image, members in enumerate(_by_image(image_index, len(grads[0]))):
            total: Tensor | None = None
            for rows, pixels, weights in _triples(ctx.sampling, sizes, boxes, levels, members, BACKWARD_PORTION):
                # Transposed first: index_select then does both in one pass.
                bins = gradient.flatten(2).transpose(1, 2).index_select(0, rows).flatten(0, 1)
                part = _transposed_sum(pixels, weights.to(bins.dtype), bins, sum(areas))
                total = part if total is None else total.add_(part)
            if total is None:
                total = gradient.new_zeros((sum(areas), channels))
            for grad, part in zip(grads, total.split(areas), strict=True):
                grad[image].flatten(1).copy_(part.t())
        return (None, None, None, None, *grads)


def pool_rows(sampling: Sampling, boxes: Tensor, levels: Tensor, image_index: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """(R, S * S, C): of each box its bins in row-major order. Arguments as of `RoIAlignCPU.forward`, no gradient.

    A channels-last map is read where it lies; of another one a copy is made.
    """
    sizes = [(m.shape[2], m.shape[3]) for m in maps]
    channels, size = maps[0].shape[1], sampling.output_size
    pooled = maps[0].new_empty((len(boxes), size**2, channels))
    # Boxes of one level of one image follow each other, so that one call of embedding_bag reads one map.
    place = image_index * len(maps) + levels
    counts: list[int] = place.bincount(minlength=len(maps[0]) * len(maps)).tolist()
    for number, members in enumerate(place.argsort(stable=True).split(counts)):
        if not len(members):
            continue
        image, level = divmod(number, len(maps))
        table = maps[level][image].permute(1, 2, 0).reshape(-1, channels)
        one = Sampling((sampling.strides[level],), *sampling[1:])
        for rows, pixels, weights in _triples(
            one, sizes[level : level + 1], boxes, torch.zeros_like(levels), members, FORWARD_PORTION
        ):
            # In half precision the weights are rounded as the map is; sums are float32 inside.
            bins = F.embedding_bag(pixels, table, mode="sum", per_sample_weights=weights.to(table.dtype))
            pooled.index_copy_(0, rows, bins.unflatten(0, (-1, size**2)))
    return pooled


def _memory_format(m: Tensor) -> torch.memory_format:
    nhwc = m.is_contiguous(memory_format=torch.channels_last) and not m.is_contiguous()
    return torch.channels_last if nhwc else torch.contiguous_format


def _by_image(image_index: Tensor, n_images: int) -> tuple[Tensor, ...]:
    """Which boxes lie on each image."""
    counts: list[int] = image_index.bincount(minlength=n_images).tolist()
    order: Tensor = image_index.argsort(stable=True)
    parts: tuple[Tensor, ...] = order.split(counts)
    return parts


def _transposed_sum(pixels: Tensor, weights: Tensor, bins: Tensor, n_pixels: int) -> Tensor:
    """(n_pixels, C): at each pixel the sum of weight × bin over the triples that name it.

    pixels, weights: (N, t) of bin 0..N-1. bins: (N, C).
    """
    # Sorting takes most of the time, and half of it with short keys.
    keys = pixels.flatten().to(torch.int16 if n_pixels <= 1 << 15 else torch.int32)
    pixel, order = keys.sort()
    starts = torch.searchsorted(pixel, torch.arange(n_pixels, dtype=pixel.dtype), out_int32=True)
    bin_of = torch.arange(len(bins), dtype=torch.int32)[:, None].expand_as(pixels).flatten()
    return F.embedding_bag(
        bin_of.index_select(0, order),
        bins,
        starts,
        mode="sum",
        per_sample_weights=weights.flatten().index_select(0, order),
    )


def _triples(
    sampling: Sampling, sizes: Sequence[tuple[int, int]], boxes: Tensor, levels: Tensor, members: Tensor, portion: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Boxes of one image, in portions of so many triples: which (r,), the pixels that make up their bins, the weights.

    Pixels are (r * S², t) int32, counted through all levels of the image. In boxes whose samples lie at most a pixel
    apart, neighbouring samples share pixels, which are named once.
    """
    size, n = sampling.output_size, sampling.sampling_ratio
    scale = 1 / torch.tensor(sampling.strides, dtype=boxes.dtype)
    start, end = (boxes[members] * scale[levels[members], None] - 0.5 * sampling.aligned).view(-1, 2, 2).unbind(1)
    extent = end - start if sampling.aligned else (end - start).clamp(min=1)
    dense = ((extent >= 0) & (extent <= size * n)).all(1) if n > 1 else torch.zeros(len(members), dtype=torch.bool)
    first = F.pad(torch.tensor([h * w for h, w in sizes]).cumsum(0), (1, 0)).int()
    lengths = torch.tensor(sizes)
    for chosen, taps in ((dense, n + 1), (~dense, 2 * n)):
        for part in chosen.nonzero().flatten().split(max(1, portion // (size * taps) ** 2)):
            rows = members[part]
            length = lengths[levels[rows]].flip(1)  # width, height
            cell, weight = _axes(start[part], extent[part] / size, length, sampling, taps)
            cell[:, 1] *= length[:, 0, None, None]
            cell[:, 1] += first[levels[rows], None, None]
            # The last dimension is made long before the large sum and product: they run over it.
            x, wx = (t[:, 0, None, :].repeat(1, 1, 1, taps) for t in (cell, weight))
            y, wy = (t[:, 1, :, None].repeat_interleave(taps, 3) for t in (cell, weight))
            yield rows, (y + x).flatten(0, 2), (wy * wx).flatten(0, 2)


def _axes(start: Tensor, step: Tensor, length: Tensor, sampling: Sampling, taps: int) -> tuple[Tensor, Tensor]:
    """Cells (r, 2, S, taps) int32 that the samples of each bin touch along x and y, and their weights (sum 1).

    start: (r, 2) in cells. step: (r, 2), the bin's side. length: (r, 2), the map's.

    A sample more than one cell outside of the map counts as zero; one less far outside reads the border (as in
    torchvision and Detectron2). The order of operations is torchvision's, so that rounding is the same.
    """
    n = sampling.sampling_ratio
    start, step, length = (t[..., None, None] for t in (start, step, length))
    bins = torch.arange(sampling.output_size, dtype=start.dtype)[:, None]
    position = start + bins * step + (torch.arange(n, dtype=start.dtype) + 0.5) * step / n
    share = ((position >= -1) & (position <= length)).to(position.dtype) / n
    position = position.clamp(min=0).minimum(length - 1).nan_to_num()
    low = position.floor()
    if taps == 2 * n:
        part = position - low
        cells = torch.cat((low, low + 1), dim=3)
        weights = torch.cat((1 - part, part), dim=3) * share.repeat(1, 1, 1, 2)
    else:
        cells = low[..., :1] + torch.arange(taps, dtype=low.dtype)
        distance = (cells[..., :, None] - position[..., None, :]).abs_()
        weights = ((1 - distance).clamp_(min=0) * share[..., None, :]).sum(4)
    # Beyond the last cell weights are zero: any cell will do.
    return cells.minimum(length - 1).int(), weights
