"""What a mask head learns from: each proposal's part of its object's mask, on the head's grid."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Masks, Polygons, Rle, Size


def mask_targets(
    masks: Masks,
    boxes: Tensor,
    matched: Tensor,
    scale: tuple[float, float],
    size: int = 28,
    offset: tuple[float, float] = (0.0, 0.0),
) -> tuple[Tensor, Tensor]:
    """Training targets of a mask head for the boxes of one image (Mask R-CNN, section 3.1).

    Equal to torchvision's (`project_masks_on_boxes` of bitmaps resized to the network's grid by nearest neighbour), but
    no such bitmap is made: RoIAlign is linear and separable, so a target is `rows @ window @ columns`, where the window
    is the part of the annotation's own grid that the boxes of one object reach. Work is done on the host, where
    polygons and runs are; boxes and matches are copied there, so call it once per image, after queueing other work.

    Args:
        masks: N objects of the image, as polygons or RLE, on the original grid (`Masks.size`).
        boxes: (S, 4) corners in network pixels. matched: (S,) int64, object of each; negative for none.
        scale: (x, y) network / original pixels, and offset: (x, y) of the image on the canvas (`Batch`).
        size: cells of the head's grid along a side, M.

    Returns:
        targets (S, M, M) float32 in 0..1 and valid (S,) bool, on the boxes' device. Rows without an object, or whose
        object has no mask or one without a pixel, are zeros and not valid: they must not count in the loss.
    """
    targets = torch.zeros((len(boxes), size, size))
    assert masks.shapes is not None, "targets are made of annotations (polygons, RLE), not of a mask head's grid"
    known = _has_mask(masks)
    of = matched.cpu().numpy()
    valid = (of >= 0) & known[of] if len(known) else np.zeros(len(boxes), dtype=bool)
    rows = np.flatnonzero(valid)
    if len(rows):
        rows = rows[np.argsort(of[rows], kind="stable")]
        objects, first, count = np.unique(of[rows], return_index=True, return_counts=True)
        corners = boxes.detach().cpu().float().numpy()[rows] - np.array(offset * 2, dtype=np.float32)
        across = _axis(corners[:, 0], corners[:, 2], masks.size[1], scale[0], size, first, count)
        down = _axis(corners[:, 1], corners[:, 3], masks.size[0], scale[1], size, first, count)
        for i, (number, start, n) in enumerate(zip(objects.tolist(), first.tolist(), count.tolist(), strict=True)):
            x, y = across.pixels[i], down.pixels[i]
            frame = (int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1)
            bitmap = mask_ops.render(Masks(masks.size, shapes=[masks.shapes[number]]), frame)[0].numpy()
            window = torch.from_numpy(bitmap[np.ix_(y - y[0], x - x[0])].astype(np.float32))
            chosen = torch.from_numpy(rows[start : start + n])
            with torch.autocast("cpu", enabled=False):  # targets are exact, whatever the network computes in
                targets[chosen] = down.weights[i] @ window @ across.weights[i].transpose(1, 2)
    return targets.to(boxes.device), torch.from_numpy(valid).to(boxes.device)


class _Axis(NamedTuple):
    """Along one axis, per object: the pixels of its window (w,), and how much each counts in each cell (n, M, w)."""

    pixels: list[np.ndarray]
    weights: list[Tensor]


def _axis(
    start: np.ndarray, end: np.ndarray, length: int, scale: float, size: int, first: np.ndarray, count: np.ndarray
) -> _Axis:
    """Weights of RoIAlign along one axis, with the nearest neighbour resize before it.

    Args:
        start, end: (S,) float32 in network pixels, boxes of one object in a row. length: of the original image.
        first, count: (G,) where each object's boxes begin, and how many they are.

    The order of operations is that of torchvision's kernel (`aligned=False`, adaptive sampling), so that rounding is
    the same: of samples per cell as many as pixels along it, rounded up.
    """
    network = max(1, round(length * scale))
    # PyTorch's nearest neighbour computes in float32.
    nearest = np.floor(np.arange(network, dtype=np.float32) * (np.float32(length) / np.float32(network)))
    source = nearest.astype(np.int64).clip(max=length - 1)
    extent = np.maximum(end - start, np.float32(1))
    cell_side = extent / np.float32(size)
    n_samples = np.ceil(cell_side).astype(np.int64)

    box = np.repeat(np.arange(len(start)), n_samples * size)
    place = np.arange(len(box)) - np.repeat(np.cumsum(n_samples * size) - n_samples * size, n_samples * size)
    n = n_samples[box]
    cell, sample = place // n, place % n
    side = cell_side[box]
    position = start[box] + cell.astype(np.float32) * side + (sample.astype(np.float32) + 0.5) * side / n.astype("f4")
    # A sample more than a pixel outside counts as zero; one less far outside reads the border.
    share = ((position >= -1) & (position <= network)).astype(np.float32) / n
    position = position.clip(0, network - 1)
    low = position.astype(np.int64)
    part = position - low
    taps = np.stack((low, np.minimum(low + 1, network - 1)))
    weights = np.stack(((1 - part) * share, part * share))
    # The coarser of the two grids is worked on.
    pixel_of = source if network < length else np.arange(length)
    taps = taps if network < length else source[taps]

    first_sample = (np.cumsum(n_samples * size) - n_samples * size)[first]
    begin = np.minimum.reduceat(taps[0], first_sample)
    stop = np.maximum.reduceat(taps[1], first_sample) + 1
    width = stop - begin
    of_box = np.repeat(np.arange(len(first)), count)
    base = np.cumsum(width[of_box]) * size
    base = np.concatenate([[0], base])
    index = base[box] + cell * width[of_box[box]] + taps - begin[of_box[box]]
    dense = torch.from_numpy(np.bincount(index.ravel(), weights.ravel(), minlength=base[-1]).astype(np.float32))
    ends = base[first + count]
    return _Axis(
        [pixel_of[b:e] for b, e in zip(begin, stop, strict=True)],
        [
            dense[a:b].view(k, size, w)
            for a, b, k, w in zip(base[first].tolist(), ends.tolist(), count.tolist(), width.tolist(), strict=True)
        ],
    )


def _has_mask(masks: Masks) -> np.ndarray:
    """(N,) bool: the object has a mask with at least a polygon, or a pixel."""
    assert masks.shapes is not None
    return np.array([_is_filled(shape, masks.size) for shape in masks.shapes], dtype=bool)


def _is_filled(shape: Polygons | Rle | None, size: Size) -> bool:
    if isinstance(shape, dict):
        return int(mask_ops.area([shape])[0]) > 0
    return shape is not None and any(len(p) >= 3 for p in shape)
