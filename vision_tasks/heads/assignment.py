"""What each anchor of a dense head is taught: the truth it answers for, of a whole batch in tensors of one shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vision_tasks.heads.rpn import learnable
from vision_tasks.ops.matching import IGNORED
from vision_tasks.structures import Target

Match = Callable[[Tensor, Tensor], Tensor]
"""(truth (T, 4), which of it is to be learned (T,) bool; T >= 1) -> (A,) as `ops.matching.match` returns."""


@dataclass
class Assignment:
    """Attributes:
    matches: (B, A) as `ops.matching.match` returns. columns: (B, A) class output of the matched truth.
    boxes: (B, A, 4) the matched truth. Where `matches` is negative, both are some legal value that means nothing.
    annotated: images somebody annotated.
    """

    matches: Tensor
    columns: Tensor
    boxes: Tensor
    annotated: int

    @property
    def positive(self) -> Tensor:
        """(B, A) bool: anchors that answer for a truth."""
        return self.matches >= 0

    def classes(self, logits: Tensor) -> Tensor:
        """(B, A, C) bool in the shape of the logits: the one class output of each positive anchor."""
        truth = torch.zeros_like(logits, dtype=torch.bool)
        return truth.scatter_(2, self.columns[..., None], self.positive[..., None])


@torch.no_grad()
def assign(targets: Sequence[Target], columns: Tensor, anchors: int, match: Match) -> Assignment:
    """Match the truth of each image with its anchors.

    Anchors of an image that nobody annotated are ignored. Nothing waits for the host.

    Args:
        columns: (K,) output that belongs to each label. anchors: how many there are.
    """
    matches, outputs, boxes = [], [], []
    for target in targets:
        if target.boxes is None:
            matches.append(torch.full((anchors,), IGNORED, device=columns.device))
            outputs.append(columns.new_zeros(anchors))
            boxes.append(torch.zeros((anchors, 4), device=columns.device))
            continue
        truth, real = learnable(target)
        index = match(truth, real)
        row = index.clamp(min=0)
        matches.append(index)
        assert target.labels is not None
        outputs.append(columns[target.labels][row] if len(target.labels) else torch.zeros_like(row))
        boxes.append(truth[row])
    annotated = sum(target.boxes is not None for target in targets)
    return Assignment(torch.stack(matches), torch.stack(outputs), torch.stack(boxes), annotated)
