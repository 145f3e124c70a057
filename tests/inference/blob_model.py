"""A detector without weights that finds what is bright: one object per blob, of the category of its colour.

What it should say about any image made of rectangles is known beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from vision_tasks.backbones.base import Backbone
from vision_tasks.heads.base import Head
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Batch, Categories, Masks, Prediction


class Pixels(Backbone):
    """The image itself."""

    def __init__(self) -> None:
        super().__init__({"C1": 3})
        self.layers = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False))
        with torch.no_grad():
            self.layers[0].weight.copy_(torch.eye(3)[:, :, None, None])

    def stages(self) -> list[tuple[str, list[nn.Module]]]:
        return [("C1", [self.layers])]


class Blobs(Head):
    """One object per connected blob in each channel; it scores how bright it is."""

    def __init__(self, categories: Categories, smallest: int, masks: int | None, drift: float) -> None:
        super().__init__(categories, ("C1",), range(len(categories)))
        self.smallest, self.masks, self.drift = smallest, masks, drift
        self.calls: list[tuple[int, ...]] = []

    @property
    def has_masks(self) -> bool:
        return self.masks is not None

    def predict(self, features: dict[str, Tensor], batch: Batch) -> list[Prediction]:
        self.calls.append(tuple(features["C1"].shape))
        return [self._found(image, size) for image, size in zip(features["C1"], batch.image_sizes, strict=True)]

    def tensors(self, features: dict[str, Tensor], image_sizes: Tensor, canvas: tuple[int, int]) -> dict[str, Tensor]:
        return {}

    def _found(self, image: Tensor, size: tuple[int, int]) -> Prediction:
        boxes, labels, scores, grids = [], [], [], []
        for label in range(len(self.categories)):
            bright = image[label, : size[0], : size[1]].detach().numpy()
            numbers, _ = ndimage.label(bright > 0.2)
            for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), start=1):
                own = numbers[rows, columns] == number
                if own.sum() < self.smallest:
                    continue
                boxes.append([columns.start, rows.start, columns.stop, rows.stop])
                labels.append(label)
                scores.append(float(bright[rows, columns][own].mean()))
                side = self.masks or 1
                y, x = (np.minimum((np.arange(side) + 0.5) / side * n, n - 1).astype(int) for n in own.shape)
                grids.append(own[y][:, x])
        found = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) + self.drift
        order = torch.tensor(scores).argsort(descending=True, stable=True)
        masks = None
        if self.masks is not None:
            grid = torch.from_numpy(np.array(grids, dtype=np.float32).reshape(-1, self.masks, self.masks))
            masks = Masks(size, grid=grid[order], boxes=found[order])
        return Prediction(
            size, self.categories, found[order], torch.tensor(labels, dtype=torch.int64)[order],
            torch.tensor(scores)[order], masks,
        )  # fmt: skip


def blob_model(
    names: Sequence[str] = ("red", "green"),
    smallest: int = 1,
    masks: int | None = None,
    drift: float = 0.0,
    **rule: Any,
) -> VisionModel:
    """Categories are channels, in order.

    smallest: network pixels of a blob. masks: side of the grids. drift: pixels by which boxes are wrong.
    """
    options = {"resize": "none", "mean": (0.0,) * 3, "std": (1.0,) * 3, "stride": 1} | rule
    head = Blobs(Categories.of(list(names)), smallest, masks, drift)
    return VisionModel(Preprocess(**options), Pixels(), None, {"objects": head}).eval()


def scene(height: int, width: int, rectangles: Sequence[tuple[int, int, int, int, int, float]]) -> Tensor:
    """(3, H, W) uint8, black but for (x1, y1, x2, y2, channel, brightness)."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    for x1, y1, x2, y2, channel, bright in rectangles:
        image[channel, y1:y2, x1:x2] = round(255 * bright)
    return image


def discs(height: int, width: int, places: Sequence[tuple[int, int, int]]) -> tuple[Tensor, Tensor]:
    """(3, H, W) uint8 with red discs (x, y, radius), and their masks (N, H, W) bool."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    masks = torch.stack([(x - cx) ** 2 + (y - cy) ** 2 < r**2 for cx, cy, r in places])
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[0] = masks.any(dim=0).to(torch.uint8) * 255
    return image, masks
