"""What a model does to the sizes of objects, in plain numbers; `training.network` takes them from a model."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

_MULTIPLE = 32
_ROOTS = (0.5**0.5, 1.0, 2.0**0.5)  # of height / width
_SIDES = (32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Network:
    """What a model does to sizes, in plain numbers.

    Attributes:
        name: of the model. resize, min_size, max_size, size: as in `models.preprocess.Preprocess`.
        strides: pixels of a cell of each level that objects are found on, finest first.
        anchors: (width, height) of each level's anchors in network pixels; None for a model without anchors.
        place: of an anchor within its cell, in cells: 0 for the corner, 0.5 for the centre.
        anchor_option: the option of the recipe that scales the anchors, "" if there is none.
        anchor_sizes: what that option is.
    """

    name: str = "faster_rcnn"
    resize: Literal["shortest", "stretch", "letterbox", "none"] = "shortest"
    min_size: int = 800
    max_size: int = 1333
    size: tuple[int, int] | None = None
    strides: tuple[float, ...] = (4, 8, 16, 32, 64)
    anchors: tuple[tuple[tuple[float, float], ...], ...] | None = tuple(
        tuple((2.0 * round(side / root / 2), 2.0 * round(side * root / 2)) for root in _ROOTS) for side in _SIDES
    )
    place: float = 0.0
    anchor_option: str = "model.anchor_sizes"
    anchor_sizes: tuple[float, ...] = _SIDES

    def resized(self, sizes: np.ndarray) -> np.ndarray:
        """(M, 2) height and width of images -> (M, 2) int64, of what the network is given; sides are rounded down."""
        sizes = sizes.astype(np.float64)
        if self.resize == "none":
            return sizes.astype(np.int64)
        if self.resize == "shortest":
            scale = np.minimum(self.min_size / sizes.min(1), self.max_size / sizes.max(1))
        else:
            assert self.size is not None
            if self.resize == "stretch":
                return np.broadcast_to(np.array(self.size), sizes.shape)
            scale = np.minimum(self.size[0] / sizes[:, 0], self.size[1] / sizes[:, 1])
        return np.asarray(np.floor(sizes * scale[:, None]).clip(1), np.int64)

    def enlarged(self, factor: float) -> Network:
        """With another input size, in whole multiples of 32; the levels stay."""
        if self.resize == "shortest":
            low, high = (max(_MULTIPLE, _rounded_up(s * factor)) for s in (self.min_size, self.max_size))
            return dataclasses.replace(self, min_size=low, max_size=max(low, high))
        if self.size is None:
            return self
        height, width = (max(_MULTIPLE, _rounded_up(s * factor)) for s in self.size)
        return dataclasses.replace(self, size=(height, width))

    @property
    def shorter_side(self) -> int:
        """Of the input; 0 if images are taken as they are."""
        return self.min_size if self.resize == "shortest" else min(self.size or (0, 0))

    @property
    def input(self) -> dict[str, Any]:
        """Its size as options of a recipe."""
        if self.resize == "shortest":
            return {"min_size": self.min_size, "max_size": self.max_size}
        if self.size is None:
            return {}
        return {"size": self.size[0] if self.size[0] == self.size[1] else list(self.size)}


def _rounded_up(side: float) -> int:
    return math.ceil(side / _MULTIPLE - 1e-6) * _MULTIPLE
