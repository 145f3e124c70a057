"""Box geometry. Boxes are (..., 4) corners (x1, y1, x2, y2) in continuous pixels unless a name says otherwise.

Areas and overlaps of half-precision boxes are computed in float32: a box 300 pixels wide and high
already overflows float16.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vision_tasks.structures import Size


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(x, y, width, height) with the top left corner, as COCO writes boxes, to corners. (..., 4) -> (..., 4)."""
    x, y, w, h = boxes.unbind(-1)
    return torch.stack((x, y, x + w, y + h), dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Corners to (x, y, width, height) with the top left corner. (..., 4) -> (..., 4)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1, y1, x2 - x1, y2 - y1), dim=-1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(centre x, centre y, width, height) to corners. (..., 4) -> (..., 4)."""
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Corners to (centre x, centre y, width, height). (..., 4) -> (..., 4)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), dim=-1)


def area(boxes: Tensor) -> Tensor:
    """Area in square pixels, (..., 4) -> (...); at least float32. An inverted box has area 0."""
    boxes = _at_least_float32(boxes)
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]


def clip(boxes: Tensor, size: Size) -> Tensor:
    """Boxes (..., 4) moved inside an image of (height, width)."""
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)), dim=-1)


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of every box with every other, (N, 4) and (M, 4) -> (N, M) in 0..1.

    Two boxes of zero area overlap by 0 (torchvision gives NaN).
    """
    boxes1, boxes2 = _at_least_float32(boxes1), _at_least_float32(boxes2)
    low = torch.maximum(boxes1[:, None, :2], boxes2[None, :, :2])
    high = torch.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    union = area(boxes1)[:, None] + area(boxes2)[None, :] - overlap
    return overlap / union.clamp(min=torch.finfo(union.dtype).tiny)


def iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of pairs, (..., 4) and (..., 4) -> (...) in 0..1. Differentiable."""
    overlap, union = _overlap_and_union(boxes1, boxes2)
    return overlap / union


def generalized_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """GIoU of pairs (Rezatofighi et al. 2019, alg. 1), (..., 4) and (..., 4) -> (...) in -1..1. Differentiable."""
    overlap, union = _overlap_and_union(boxes1, boxes2)
    hull_size = _hull_size(boxes1, boxes2)
    hull = (hull_size[..., 0] * hull_size[..., 1]).clamp(min=_EPSILON)
    return overlap / union - (hull - union) / hull


def distance_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """DIoU of pairs (Zheng et al. 2020, eq. 7), (..., 4) and (..., 4) -> (...) in -1..1. Differentiable."""
    return iou(boxes1, boxes2) - _centre_distance(boxes1, boxes2)


def complete_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """CIoU of pairs (Zheng et al. 2020, eq. 10 to 12), (..., 4) and (..., 4) -> (...). Differentiable.

    The trade-off factor is held constant in the backward pass, as in the paper's code and torchvision.
    """
    boxes1, boxes2 = _at_least_float32(boxes1), _at_least_float32(boxes2)
    overlap = iou(boxes1, boxes2)
    w1, h1 = (boxes1[..., 2:] - boxes1[..., :2]).unbind(-1)
    w2, h2 = (boxes2[..., 2:] - boxes2[..., :2]).unbind(-1)
    # Of a box without extent the angle has no gradient, and older torch gives NaN for it.
    angle = torch.atan2(w2, h2.clamp(min=_EPSILON)) - torch.atan2(w1, h1.clamp(min=_EPSILON))
    shape = 4 / torch.pi**2 * angle**2
    with torch.no_grad():
        factor = shape / (1 - overlap + shape + _EPSILON)
    return overlap - _centre_distance(boxes1, boxes2) - factor * shape


_EPSILON = 1e-7  # torchvision's; keeps pairs of zero area finite


def _at_least_float32(boxes: Tensor) -> Tensor:
    return boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.float()


def _overlap_and_union(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    boxes1, boxes2 = _at_least_float32(boxes1), _at_least_float32(boxes2)
    low = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    high = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    return overlap, (area(boxes1) + area(boxes2) - overlap).clamp(min=_EPSILON)


def _hull_size(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Width and height of the smallest box around each pair, (..., 2)."""
    boxes1, boxes2 = _at_least_float32(boxes1), _at_least_float32(boxes2)
    low = torch.minimum(boxes1[..., :2], boxes2[..., :2])
    return torch.maximum(boxes1[..., 2:], boxes2[..., 2:]) - low


def _centre_distance(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the hull, 0..1."""
    boxes1, boxes2 = _at_least_float32(boxes1), _at_least_float32(boxes2)
    apart = (boxes1[..., :2] + boxes1[..., 2:] - boxes2[..., :2] - boxes2[..., 2:]) / 2
    diagonal = _hull_size(boxes1, boxes2).square().sum(-1)
    return apart.square().sum(-1) / diagonal.clamp(min=_EPSILON)
