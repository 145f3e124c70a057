"""From scored boxes to detections: threshold, suppression, top k. Every detector uses these two functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms


def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression within each group (torchvision's kernel), always in float32.

    Args:
        boxes: (N, 4) corners in pixels. scores: (N,). groups: (N,) int64, a class or a pyramid level;
            boxes of different groups never suppress each other.
        iou_threshold: a box is dropped if it overlaps a better box of its group by more than this.

    Returns:
        Indices of the kept boxes, best score first, (M,) int64.
    """
    # Autocast would otherwise run IoU in bfloat16, where 0.5 and 0.503 are the same number.
    with torch.autocast(boxes.device.type, enabled=False):
        kept: Tensor = batched_nms(boxes.float(), scores.float(), groups, iou_threshold)
    return kept


def select(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    *,
    iou_threshold: float,
    top_k: int,
    min_size: float = 0.0,
) -> Tensor:
    """Drop boxes with a side shorter than `min_size`, suppress, and keep the best `top_k`.

    Args:
        boxes: (N, 4) corners in pixels, clipped to the image. scores: (N,). groups: (N,) int64.

    Returns:
        Indices of the chosen boxes, best score first, (M,) int64 with M <= top_k.
    """
    large = ((boxes[:, 2:] - boxes[:, :2]) >= min_size).all(dim=1).nonzero().flatten()
    kept = suppress(boxes[large], scores[large], groups[large], iou_threshold)
    return large[kept[:top_k]]
