"""Features of a box: RoIAlign over the level of the pyramid that suits its size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align as align_single

from vision_tasks.ops.boxes import area
from vision_tasks.ops.roi_align_cpu import RoIAlignCPU, Sampling, pool_rows


def assign_levels(
    boxes: Tensor, lowest: int, highest: int, canonical_size: float = 224, canonical_level: int = 4
) -> Tensor:
    """Pyramid level of each box: a box of `canonical_size`² pixels lies on `canonical_level` (FPN, eq. 1).

    Args:
        boxes: (N, 4) corners in pixels of the network's input. lowest, highest: levels there are (2 and 5 for P2..P5).

    Returns:
        (N,) int64 in lowest..highest. A millionth is added before rounding down, as in torchvision.
    """
    level = torch.floor(canonical_level + torch.log2(area(boxes).sqrt() / canonical_size) + 1e-6)
    return level.clamp(lowest, highest).to(torch.int64)


def multilevel_roi_align(
    features: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    image_index: Tensor,
    output_size: int,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Tensor:
    """RoIAlign (Mask R-CNN, section 3) of every box on its level of the pyramid.

    Args:
        features: per level, (B, C, h, w), finest first. strides: their strides in pixels, powers of two, each twice
            the one before.
        boxes: (R, 4) corners in pixels. image_index: (R,) int64, which image of the batch each belongs to.
        output_size: S. sampling_ratio: sample points per bin and axis.
        aligned: shift by half a pixel; torchvision's published detectors do not.

    Returns:
        (R, C, S, S) in the features' dtype, equal to torchvision's; channels-last on a CPU where no gradient is
        wanted. The gradient goes to the features alone.

    On a CPU `roi_align_cpu` does the work, several times as fast as torchvision's kernel. That kernel serves all other
    devices, adaptive sampling (a `sampling_ratio` of 0 or less), and compiling and exporting, where one operator that
    other runtimes know (ONNX: RoiAlign) is worth more than speed here.
    """
    lowest, highest = (int(math.log2(strides[i])) for i in (0, -1))
    levels = assign_levels(boxes, lowest, highest) - lowest
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    if features[0].device.type == "cpu" and sampling_ratio > 0 and not traced:
        sampling = Sampling(tuple(strides), output_size, sampling_ratio, aligned)
        precise = torch.float64 if features[0].dtype == torch.float64 else torch.float32
        # A box that is not a number has no level; it must come out as zeros, not as a crash.
        levels = levels.clamp(0, len(features) - 1)
        boxes = boxes.detach().to(precise)
        if torch.is_grad_enabled() and any(feature.requires_grad for feature in features):
            pooled: Tensor = RoIAlignCPU.apply(sampling, boxes, levels, image_index, *features)
            return pooled
        rows = pool_rows(sampling, boxes, levels, image_index, features)
        return rows.view(len(boxes), output_size, output_size, features[0].shape[1]).permute(0, 3, 1, 2)
    return _align_by_level(features, strides, boxes, image_index, levels, output_size, sampling_ratio, aligned)


def _align_by_level(
    features: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    image_index: Tensor,
    levels: Tensor,
    output_size: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """torchvision's kernel, once a level."""
    dtype = features[0].dtype
    rois = torch.cat((image_index[:, None].float(), boxes.float()), dim=1)
    if len(features) > 1 and torch.compiler.is_exporting():
        return _align_into_place(features, strides, rois, levels, output_size, sampling_ratio, aligned)
    parts: list[Tensor] = []
    order: list[Tensor] = []
    for level, (feature, stride) in enumerate(zip(features, strides, strict=True)):
        # CPU kernels do not know half precision, no kernel knows bfloat16, and autocast would mix dtypes.
        known = dtype == torch.float64 or (feature.is_cuda and dtype != torch.bfloat16)
        feature = feature if known else feature.float()
        here = (
            (levels == level).nonzero().flatten() if len(features) > 1 else torch.arange(len(rois), device=rois.device)
        )
        part = align_single(feature, rois[here].to(feature.dtype), output_size, 1 / stride, sampling_ratio, aligned)
        parts.append(part.to(dtype))
        order.append(here)
    if len(parts) == 1:
        return parts[0]
    # One gather restores the boxes' order; writing each level into a result would copy the gradient once a level.
    return torch.cat(parts)[torch.cat(order).argsort()]


def _align_into_place(
    features: Sequence[Tensor],
    strides: Sequence[int],
    rois: Tensor,
    levels: Tensor,
    output_size: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """The same for exported graphs, which must know how many rows come out: each level is written where it belongs."""
    dtype = features[0].dtype
    pooled = rois.new_zeros((rois.shape[0], features[0].shape[1], output_size, output_size))
    for level, (feature, stride) in enumerate(zip(features, strides, strict=True)):
        here = (levels == level).nonzero().flatten()
        part = align_single(feature.float(), rois[here], output_size, 1 / stride, sampling_ratio, aligned)
        pooled = pooled.index_copy(0, here, part)
    return pooled.to(dtype)
