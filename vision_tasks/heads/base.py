"""What every head promises: features in; named losses, or predictions on the network's grid, out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision_tasks.structures import Batch, Categories, Prediction


class Head(nn.Module):
    """One task on a pyramid. It owns its categories and knows which of its outputs they are.

    Attributes:
        categories: what its labels mean, K of them.
        levels: names of the maps it reads, of backbone and neck together, finest first.
        columns: (K,) int64 buffer: the output that belongs to each label. Published COCO weights have 91 outputs,
            background and 80 real categories among them; picking after the softmax leaves scores those of the
            full output, and the unused never come out.
    """

    columns: Tensor

    def __init__(self, categories: Categories, levels: Sequence[str], columns: Sequence[int]) -> None:
        super().__init__()
        if len(columns) != len(categories):
            raise ValueError(f"{len(categories)} categories need as many columns, not {len(columns)}")
        self.categories = categories
        self.levels = tuple(levels)
        self.register_buffer("columns", torch.tensor(list(columns), dtype=torch.int64), persistent=False)

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted scalars; finite on empty images, one-pixel boxes and all-crowd batches."""
        raise NotImplementedError

    def predict(self, features: dict[str, Tensor], batch: Batch) -> list[Prediction]:
        """One prediction per image, on the network's grid."""
        raise NotImplementedError
