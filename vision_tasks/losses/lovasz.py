"""The Lovász losses: intersection over union, made a loss that has slopes (Berman et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 2**22  # pixels that are sorted at once, in about 0.15 GB


def lovasz(logits: Tensor, target: Tensor, *, per_image: bool = False) -> Tensor:
    """Lovász-Softmax of labels, averaged over the classes there are; Lovász hinge of layers, averaged over them.

    Equal to segmentation_models_pytorch for labels and for one layer. Of several layers smp makes one long row of
    pixels; here each has a loss of its own, as it has an intersection over union of its own. With `per_image`, images
    without annotation count nowhere, for which smp fails or counts a 0.

    Sorting is dear, so that of a softmax only the classes there are are sorted. To know them the device is waited for,
    once.

    Args:
        logits: (B, K, H, W). target: (B, H, W) int64 labels, or (B, K, H, W) of 0 and 1; -1 is ignored.
        per_image: the mean of the images' losses in place of one loss of all the batch's pixels.
    """
    if target.ndim == logits.ndim:
        truth, valid = _grouped(target > 0, per_image).flatten(0, 1), _grouped(target >= 0, per_image)
        shares = _shares(valid.any(2), logits).flatten()
        wrong = 1 + _grouped(torch.where(target > 0, -logits, logits), per_image).flatten(0, 1)
        wrong = torch.where(valid.flatten(0, 1), wrong.relu(), 0)
        return ((wrong * _slopes(wrong.detach(), truth, valid.flatten(0, 1))).sum(1) * shares).sum()
    labels = _grouped(target[:, None], per_image)[:, 0]
    # A column more, for ignored pixels.
    found = torch.zeros(len(labels), logits.shape[1] + 1, dtype=torch.bool, device=labels.device)
    present = found.scatter(1, labels + 1, True)[:, 1:]
    group, column = present.nonzero(as_tuple=True)
    probability = logits.softmax(1)
    if per_image:
        rows = probability.flatten(2)[group, column]
    else:
        rows = probability.index_select(1, column).transpose(0, 1).flatten(1)
    truth, valid = labels[group] == column[:, None], labels[group] >= 0
    wrong = torch.where(truth, 1 - rows, torch.where(valid, rows, 0))
    shares = _shares(present, wrong)[group, column]
    return ((wrong * _slopes(wrong.detach(), truth, valid)).sum(1) * shares).sum()


def _grouped(maps: Tensor, per_image: bool) -> Tensor:
    """(B, K, H, W) -> (B, K, pixels), or (1, K, pixels of all images)."""
    return maps.flatten(2) if per_image else maps.transpose(0, 1).flatten(1)[None]


def _shares(counted: Tensor, like: Tensor) -> Tensor:
    """What every class of every group weighs in the mean over groups of the mean over classes, same shape."""
    counted = counted.to(like.dtype)
    groups = counted.amax(1).sum().clamp_min(1)
    return counted / counted.sum(1, keepdim=True).clamp_min(1) / groups


@torch.no_grad()
def _slopes(wrong: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """How much the loss of each row, 1 - intersection / union, grows as each pixel becomes wrong after all worse ones.

    With them the loss is a sum of products (algorithm 1 of the paper). The paper takes differences of neighbouring
    Jaccard indices, of which float32 leaves few digits when there are millions of pixels; here they are worked out.

    Args:
        wrong: (R, P) how wrong each pixel is, >= 0. truth: (R, P) bool. valid: (R, P) bool, the pixels that count.
    """
    slopes = torch.zeros_like(wrong)
    pixels = torch.arange(1, wrong.shape[1] + 1, device=wrong.device)
    step = max(1, _BLOCK // max(1, wrong.shape[1]))
    for first in range(0, len(wrong), step):
        block = slice(first, first + step)
        order = torch.where(valid[block], wrong[block], -1).argsort(1, descending=True)
        true = truth[block].gather(1, order)
        hits = true.cumsum(1)
        total = hits[:, -1:]
        union = (total + pixels - hits).to(wrong)
        # A missed pixel of the class leaves the union as it is; a false one makes it larger by one.
        slope = torch.where(true, 1 / union, (total - hits) / (union * (union - 1).clamp_min(1)))
        slope[:, :1] = torch.where(total == 0, 1, slope[:, :1])
        slopes[block] = torch.zeros_like(slope).scatter(1, order, slope)
    return slopes
