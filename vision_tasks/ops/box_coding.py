"""Boxes as offsets from anchors or proposals, the targets of R-CNN's regressors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Weights = tuple[float, float, float, float]

MAX_LOG_SIZE = math.log(1000 / 16)
"""No box may grow past 1000 pixels from a 16-pixel anchor (Detectron's constant): exp() must not overflow."""


def encode_boxes(boxes: Tensor, references: Tensor, weights: Weights = (1, 1, 1, 1)) -> Tensor:
    """Offsets that lead from references to boxes (R-CNN, appendix C, eq. 6 to 9, times the weights).

    Args:
        boxes: (..., 4) corners, float. references: (..., 4) corners of positive size.
        weights: of dx, dy, dw, dh; Fast R-CNN scales its targets to unit variance by 10, 10, 5, 5.

    Returns:
        (..., 4) float32 (dx, dy, dw, dh). A box without width or height gives its logarithm's -inf; the caller
        leaves such boxes out.
    """
    boxes, references = boxes.float(), references.float()
    size = references[..., 2:] - references[..., :2]
    centre = references[..., :2] + 0.5 * size
    box_size = boxes[..., 2:] - boxes[..., :2]
    box_centre = boxes[..., :2] + 0.5 * box_size
    scale = boxes.new_tensor(weights)
    return torch.cat(((box_centre - centre) / size, (box_size / size).log()), dim=-1) * scale


def decode_boxes(deltas: Tensor, references: Tensor, weights: Weights = (1, 1, 1, 1)) -> Tensor:
    """Inverse of `encode_boxes`, with dw and dh clamped to `MAX_LOG_SIZE`. (..., 4), (..., 4) -> (..., 4) float32."""
    deltas, references = deltas.float() / deltas.new_tensor(weights, dtype=torch.float32), references.float()
    size = references[..., 2:] - references[..., :2]
    centre = references[..., :2] + 0.5 * size
    new_centre = deltas[..., :2] * size + centre
    half = 0.5 * deltas[..., 2:].clamp(max=MAX_LOG_SIZE).exp() * size
    return torch.cat((new_centre - half, new_centre + half), dim=-1)


def encode_distances(boxes: Tensor, references: Tensor) -> Tensor:
    """How far the sides of boxes lie from the references' centres, in units of the references' sizes.

    FCOS (Tian et al. 2020, eq. 1), with distances divided by the stride, which is the size of its references.

    Args:
        boxes: (..., 4) corners. references: (..., 4) corners of positive size.

    Returns:
        (..., 4) float32 (left, top, right, bottom); all are positive if the centre lies within the box.
    """
    boxes, references = boxes.float(), references.float()
    size = references[..., 2:] - references[..., :2]
    centre = (references[..., :2] + references[..., 2:]) / 2
    return torch.cat(((centre - boxes[..., :2]) / size, (boxes[..., 2:] - centre) / size), dim=-1)


def decode_distances(distances: Tensor, references: Tensor) -> Tensor:
    """Inverse of `encode_distances`. (..., 4), (..., 4) -> (..., 4) float32 corners."""
    distances, references = distances.float(), references.float()
    size = references[..., 2:] - references[..., :2]
    centre = (references[..., :2] + references[..., 2:]) / 2
    return torch.cat((centre - distances[..., :2] * size, centre + distances[..., 2:] * size), dim=-1)
